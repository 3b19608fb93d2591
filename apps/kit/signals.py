"""Being told to stop: a clean stop ends with exit code 0."""

import signal
import sys
from types import FrameType

from uvicorn import Server


def stop_on_sigterm() -> None:
    """Have SIGTERM stop the uvicorn server that runs this process; to be called in its lifespan.

    uvicorn's own handler raises the signal again after the stop, which to a supervisor looks like a crash.
    And it cannot stop a start: a worker that waits for RabbitMQ has begun nothing, so it may just end.
    """
    server = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    if not isinstance(server, Server):
        return  # run by something else, which knows what to do

    def stop(_number: int, _frame: FrameType | None) -> None:
        if not server.started:
            sys.exit(0)
        server.should_exit = True

    signal.signal(signal.SIGTERM, stop)
