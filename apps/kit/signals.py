"""Being told to stop: a clean stop ends with exit code 0, and no stop hangs for ever."""

import faulthandler
import signal
import sys
from math import ceil
from types import FrameType

from uvicorn import Server

from apps.kit.settings import get_settings

_EXIT_SECONDS = 15.0
"""What a stop may take beyond the drain timeout: closing connections, and the interpreter's own end."""
_servers: list[Server] = []
"""The one that runs this process, once it is known."""


def stop_on_sigterm() -> None:
    """Have SIGTERM stop the uvicorn server that runs this process; to be called in its lifespan.

    uvicorn's own handler raises the signal again after the stop, which to a supervisor looks like a crash.
    And it cannot stop a start: a worker that waits for RabbitMQ has begun nothing, so it may just end.
    """
    server = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    if not isinstance(server, Server):
        return  # run by something else, which knows what to do
    _servers[:] = [server]

    def stop(_number: int, _frame: FrameType | None) -> None:
        if not server.started:
            sys.exit(0)
        # One client who does not take its answer must not keep the rest of the stop from happening.
        if server.config.timeout_graceful_shutdown is None:
            server.config.timeout_graceful_shutdown = ceil(get_settings().drain_timeout_seconds)
        server.should_exit = True
        end_within(get_settings().drain_timeout_seconds + _EXIT_SECONDS)

    signal.signal(signal.SIGTERM, stop)


def is_stopping() -> bool:
    """Whether the server was told to stop, by whatever signal; answers without an end have to ask."""
    return any(server.should_exit for server in _servers)


def end_within(seconds: float) -> None:
    """Have the process end with exit code 1 if it is still there then, after it has told where it hangs.

    By then all that ran was given its time, so what RabbitMQ has no answer to is delivered to others.
    """
    faulthandler.dump_traceback_later(seconds, exit=True)
