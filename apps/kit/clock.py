"""The present, at the precision that the stores keep."""

from datetime import UTC, datetime


def utc_now() -> datetime:
    """Now in UTC, cut to milliseconds like every stored and published time."""
    now = datetime.now(UTC)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)
