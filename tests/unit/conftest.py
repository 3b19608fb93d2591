"""What a test in this folder finds, whatever ran before it in the same process."""

from collections.abc import Iterator

import pytest
import structlog
from hypothesis import HealthCheck, settings

# On a busy machine slowness is no failure.
settings.register_profile("orderflow", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("orderflow")


@pytest.fixture(autouse=True)
def _log_as_it_was() -> Iterator[None]:
    """A command that runs in this process quiets the log; the next test reads it."""
    before = structlog.get_config()
    yield
    structlog.configure(**before)
