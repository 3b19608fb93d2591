"""`orderflow up`: the whole system on this machine until Ctrl-C."""

import asyncio
import signal
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from apps.cli.local.stack import LocalStack

HOME = Path(".orderflow")


def up(
    home: Annotated[Path, typer.Option(help="Directory for data, logs and mails.")] = HOME,
    port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, help="Port of the API; the first free one from 8000 if not given."),
    ] = None,
) -> None:
    """Start RabbitMQ, MongoDB and every app, and show their logs until Ctrl-C.

    What was stored stays in the home directory, and the next `up` finds it.

    ORDERFLOW_RABBITMQ_URL and ORDERFLOW_MONGODB_URL name services to use instead.

    Example: orderflow up --port 8080
    """
    asyncio.run(_up_until_stopped(home, port))


async def _up_until_stopped(home: Path, port: int | None) -> None:
    console = Console()
    serving = asyncio.create_task(_serve(home, port, console))

    def stop_once() -> None:
        # A second Ctrl-C must not interrupt the stop that the first one asked for.
        if not serving.cancelling():
            serving.cancel()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop_once)
    try:
        await serving
    except asyncio.CancelledError:
        console.print("Stopped; nothing is left running, and the data is kept.")


async def _serve(home: Path, port: int | None, console: Console) -> None:
    def say(message: str) -> None:
        console.print(Text(message, style="dim"))

    with console.status("starting") as status:
        async with LocalStack(home, echo=True, api_port=port, say=say, console=console) as stack:
            status.stop()
            for name, url in stack.urls.items():
                console.print(Text.assemble((f"{name:<18}", "bold"), url), soft_wrap=True)
            console.print("Ctrl-C stops everything.")
            await asyncio.Event().wait()
