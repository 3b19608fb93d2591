"""`orderflow topology`: what RabbitMQ holds, declared from the code that uses it."""

import asyncio
from typing import Any

import typer

from apps.cli import topology_users
from apps.cli.output import AsJson, result, show_json, show_table
from apps.kit.settings import get_settings

app = typer.Typer(
    help="Declare and show the exchanges and queues, and who else may use them.", no_args_is_help=True
)
app.add_typer(topology_users.app, name="user")


@app.command()
def apply() -> None:
    """Declare all exchanges, queues and bindings; doing it again changes nothing.

    Example: ORDERFLOW_RABBITMQ_URL=amqp://admin:secret@mq:5672/ orderflow topology apply
    """
    from apps.cli.system import apply_topology, bindings  # noqa: PLC0415  # slow to import
    from apps.kit.topology import EXCHANGES  # noqa: PLC0415

    asyncio.run(apply_topology(get_settings().rabbitmq_url.get_secret_value()))
    queues = {binding.queue.name for binding in bindings()}
    result.print(f"{len(EXCHANGES)} exchanges and {len(queues)} queues are in place.")


@app.command()
def show(as_json: AsJson = False) -> None:
    """List every queue, what feeds it, and its settings.

    Example: orderflow topology show --json
    """
    from apps.cli.system import bindings  # noqa: PLC0415  # slow to import

    rows: list[dict[str, Any]] = [
        {
            "queue": queue.name,
            "exchange": exchange.name,
            "routing_key": routing_key,
            "arguments": queue.arguments or {},
        }
        for exchange, queue, routing_key in bindings()
    ]
    if as_json:
        show_json(rows)
        return
    show_table(
        ("queue", "exchange", "routing key", "settings"),
        [(row["queue"], row["exchange"], row["routing_key"], _settings(row["arguments"])) for row in rows],
    )


def _settings(arguments: dict[str, Any]) -> str:
    return ", ".join(f"{name.removeprefix('x-')}={value}" for name, value in arguments.items())
