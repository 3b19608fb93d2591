"""Ports of local services: what one run has chosen, no other run gets."""

import subprocess
import sys

import pytest

from apps.cli.local.errors import LocalServiceError
from apps.cli.local.ports import free_port, require_free

CHOOSES = "from apps.cli.local.ports import free_port; print(free_port(), flush=True); input()"


def test_a_port_that_another_run_has_chosen_is_taken() -> None:
    """It counts from the choice on, not from when its server listens, and until that run ends."""
    with subprocess.Popen(  # noqa: S603
        [sys.executable, "-c", CHOOSES], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        port = int(other.stdout.readline())
        assert free_port(port) != port
        with pytest.raises(LocalServiceError, match=f"port {port} is in use"):
            require_free(port)
        other.communicate("\n")
    assert free_port(port) == port


def test_a_run_gets_its_own_port_again() -> None:
    """What was stopped starts again where it was."""
    port = free_port()
    assert free_port(port) == port
