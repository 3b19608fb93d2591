"""The one failure that a command reports to its user as a single line and exit code 2."""


class UsageError(Exception):
    """What was asked for cannot be done as it was asked; the message says what is wrong and where."""
