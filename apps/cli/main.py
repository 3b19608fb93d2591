"""`orderflow`: every command, and one line for whatever goes wrong."""

import logging
import os
import sys
from pathlib import Path
from typing import NoReturn

import structlog
import typer
from pydantic import ValidationError
from pydantic_settings import SettingsError
from typer._click.exceptions import ClickException

from apps.cli import asyncapi, dead_letters, keys, orders, stock, topology, users, webhooks
from apps.cli.backup import backup, restore
from apps.cli.demo import demo
from apps.cli.doctor import doctor
from apps.cli.errors import UsageError
from apps.cli.import_orders import import_orders
from apps.cli.local.errors import LocalServiceError
from apps.cli.local.running import running_in
from apps.cli.up import HOME, up
from apps.kit.errors import DependencyUnavailable
from apps.kit.validation import explain

EXIT_FAILURE = 1
EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130

app = typer.Typer(
    name="orderflow",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def orderflow(context: typer.Context) -> None:
    """Event-driven order processing on RabbitMQ and MongoDB.

    Example: orderflow demo
    """
    logging.basicConfig(stream=sys.stderr, level=logging.ERROR, format="%(message)s")
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    for name in ("aio_pika", "aiormq"):  # they repeat what the command says in one line
        logging.getLogger(name).setLevel(logging.CRITICAL)
    if context.invoked_subcommand not in {"up", "demo", "doctor"}:
        # What `orderflow up` runs in this directory, unless the environment names another system.
        for name, value in running_in(Path(os.environ.get("ORDERFLOW_HOME", HOME))).items():
            os.environ.setdefault(name, value)


for command in (up, demo, doctor, backup, restore):
    app.command()(command)
app.command(name="import")(import_orders)
app.add_typer(orders.app, name="order")
app.add_typer(stock.app, name="stock")
app.add_typer(dead_letters.app, name="dead-letters")
app.add_typer(webhooks.app, name="webhooks")
app.add_typer(keys.app, name="keys")
app.add_typer(topology.app, name="topology")
app.add_typer(users.app, name="users")
app.add_typer(asyncapi.app, name="asyncapi")


def main() -> NoReturn:
    """Run the command line; exit code 2 and one line for bad input, 1 for what failed."""
    try:
        code = app(standalone_mode=False)
    except ClickException as error:
        _fail(error.format_message(), EXIT_BAD_INPUT)
    except (UsageError, LocalServiceError) as error:
        _fail(str(error), EXIT_BAD_INPUT)
    except ValidationError as error:
        _fail(f"settings: {explain(error)}", EXIT_BAD_INPUT)
    except SettingsError as error:
        _fail(f"settings: {error}", EXIT_BAD_INPUT)
    except OSError as error:
        _fail(f"{error.filename or 'system'}: {error.strerror or error}", EXIT_BAD_INPUT)
    except DependencyUnavailable as error:
        _fail(str(error), EXIT_FAILURE)
    except (KeyboardInterrupt, typer.Abort):
        sys.exit(EXIT_INTERRUPTED)
    sys.exit(code if isinstance(code, int) else 0)


def _fail(message: str, code: int) -> NoReturn:
    print(f"orderflow: {message}", file=sys.stderr)  # noqa: T201
    sys.exit(code)


if __name__ == "__main__":
    main()
