"""The two failures that the recovery policy must tell from all others."""

from typing import ClassVar


class DependencyUnavailable(Exception):  # noqa: N818
    """Something that a worker needs is out of reach: the message waits, and no attempt is spent."""

    dependency: ClassVar[str] = "other"
    """What it is, in the metrics."""


class PermanentError(Exception):
    """Trying again cannot help: the message goes to the dead letters at once."""
