"""`orderflow webhooks`: who receives events over HTTP, and what became of each delivery."""

from collections.abc import Iterable
from typing import Annotated, Any

import typer

from apps.cli.api_client import ApiClient, path_of
from apps.cli.errors import UsageError
from apps.cli.output import AsJson, progress, result, show_json, show_table

app = typer.Typer(help="Register receivers of events, and see what they received.", no_args_is_help=True)

PATH = "/v1/webhook-endpoints"
ALL = "all"

EndpointId = Annotated[str, typer.Argument(metavar="ID", help="The endpoint's id.")]
EventTypes = Annotated[
    list[str] | None,
    typer.Option("--event-type", help=f"Deliver events of this type; may be repeated. {ALL} is every type."),
]
Description = Annotated[str | None, typer.Option(help="What it is for.")]


@app.command(name="list")
def list_endpoints(as_json: AsJson = False) -> None:
    """List endpoints, the oldest first.

    Example: orderflow webhooks list
    """
    found = ApiClient().get(PATH)
    if as_json:
        show_json(found)
        return
    show_table(
        ("endpoint id", "url", "event types", "enabled", "failing since"),
        [
            (
                endpoint["endpoint_id"],
                endpoint["url"],
                _types(endpoint),
                _yes_or_no(endpoint["enabled"]),
                endpoint["failing_since"],
            )
            for endpoint in found["endpoints"]
        ],
    )


@app.command()
def add(
    url: Annotated[str, typer.Argument(help="Where to deliver, such as https://shop.example/orderflow.")],
    event_types: EventTypes = None,
    description: Description = None,
    as_json: AsJson = False,
) -> None:
    """Register an endpoint, and show its secret this once.

    Example: orderflow webhooks add https://shop.example/orderflow --event-type invoice.issued.v1
    """
    body = {"url": url, "event_types": _chosen(event_types or [ALL]), "description": description}
    _show_secret(ApiClient().post(PATH, body), as_json)


@app.command()
def show(endpoint_id: EndpointId, as_json: AsJson = False) -> None:
    """Show one endpoint.

    Example: orderflow webhooks show 3f0c9d52-3f0e-4e9b-9a55-8a2c3d4e5f60
    """
    _show(ApiClient().get(path_of(PATH, endpoint_id)), as_json)


@app.command()
def update(
    endpoint_id: EndpointId,
    url: Annotated[str | None, typer.Option(help="Where to deliver from now on.")] = None,
    event_types: EventTypes = None,
    description: Description = None,
    enabled: Annotated[
        bool | None, typer.Option("--enable/--disable", help="Whether anything is delivered.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Change an endpoint; what is not named stays.

    Example: orderflow webhooks update 3f0c9d52-3f0e-4e9b-9a55-8a2c3d4e5f60 --enable
    """
    given = {
        "url": url,
        "event_types": _chosen(event_types) if event_types else None,
        "description": description,
        "enabled": enabled,
    }
    changes = {name: value for name, value in given.items() if value is not None}
    if not changes:
        raise UsageError("name what to change: --url, --event-type, --description, --enable or --disable")
    _show(ApiClient().patch(path_of(PATH, endpoint_id), changes), as_json)


@app.command()
def remove(endpoint_id: EndpointId) -> None:
    """Delete an endpoint; what still waits for it is not delivered.

    Example: orderflow webhooks remove 3f0c9d52-3f0e-4e9b-9a55-8a2c3d4e5f60
    """
    ApiClient().delete(path_of(PATH, endpoint_id))
    result.print(f"{endpoint_id} removed")


@app.command()
def rotate_secret(endpoint_id: EndpointId, as_json: AsJson = False) -> None:
    """Make a new secret, and show it this once; the old one stays valid for 24 hours.

    Example: orderflow webhooks rotate-secret 3f0c9d52-3f0e-4e9b-9a55-8a2c3d4e5f60
    """
    _show_secret(ApiClient().post(path_of(PATH, endpoint_id, "rotate-secret"), None), as_json)


@app.command(name="test")
def send_test(endpoint_id: EndpointId, as_json: AsJson = False) -> None:
    """Send a test; what became of it is in the deliveries.

    Example: orderflow webhooks test 3f0c9d52-3f0e-4e9b-9a55-8a2c3d4e5f60
    """
    _show_delivery(ApiClient().post(path_of(PATH, endpoint_id, "test"), None), as_json)


@app.command()
def deliveries(
    endpoint_id: EndpointId,
    state: Annotated[str | None, typer.Option(help="Only pending, delivered or failed ones.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=200, help="Most deliveries to list.")] = 20,
    cursor: Annotated[str | None, typer.Option(help="Go on behind the page that gave this.")] = None,
    as_json: AsJson = False,
) -> None:
    """List what was sent to an endpoint, newest first, with the latest attempt at each.

    Example: orderflow webhooks deliveries 3f0c9d52-3f0e-4e9b-9a55-8a2c3d4e5f60 --state failed
    """
    page = ApiClient().get(path_of(PATH, endpoint_id, "deliveries"), state=state, limit=limit, cursor=cursor)
    if as_json:
        show_json(page)
        return
    show_table(
        ("delivery id", "created at", "event type", "state", "attempts", "latest", "ms", "next attempt"),
        [_row(delivery) for delivery in page["deliveries"]],
    )
    if page["next_cursor"]:
        progress.print(f"more: --cursor {page['next_cursor']}", soft_wrap=True)


@app.command()
def resend(
    delivery_id: Annotated[str, typer.Argument(metavar="ID", help="The delivery's id.")],
    as_json: AsJson = False,
) -> None:
    """Send a delivery again, at once, under the same webhook-id.

    Example: orderflow webhooks resend 6c5b7a1e-9d0c-5f63-8a77-2f4b7e1c9d10
    """
    _show_delivery(ApiClient().post(path_of("/v1/webhook-deliveries", delivery_id, "resend"), None), as_json)


def _chosen(event_types: Iterable[str]) -> list[str]:
    """The filter as the API takes it, where an empty one is all."""
    return [] if ALL in event_types else list(event_types)


def _types(endpoint: dict[str, Any]) -> str:
    return ", ".join(endpoint["event_types"]) or ALL


def _yes_or_no(value: bool) -> str:
    return "yes" if value else "no"


def _row(delivery: dict[str, Any]) -> tuple[Any, ...]:
    latest = delivery["attempts"][-1] if delivery["attempts"] else {}
    return (
        delivery["delivery_id"],
        delivery["created_at"],
        delivery["event_type"],
        delivery["state"],
        len(delivery["attempts"]),
        latest.get("error") or latest.get("status"),
        latest.get("duration_ms"),
        delivery["next_attempt_at"],
    )


def _show(endpoint: dict[str, Any], as_json: bool) -> None:
    if as_json:
        show_json(endpoint)
        return
    shown = {**endpoint, "event_types": _types(endpoint), "enabled": _yes_or_no(endpoint["enabled"])}
    facts = [(name.replace("_", " "), value) for name, value in shown.items() if value is not None]
    show_table(("", ""), facts)


def _show_secret(endpoint: dict[str, Any], as_json: bool) -> None:
    if as_json:
        show_json(endpoint)
        return
    secret = endpoint.pop("secret")
    _show(endpoint, as_json)
    progress.print("its secret, which is not shown again:")
    result.print(secret, markup=False, highlight=False, soft_wrap=True)  # whole, so that it can be copied


def _show_delivery(delivery: dict[str, Any], as_json: bool) -> None:
    if as_json:
        show_json(delivery)
        return
    result.print(f"{delivery['delivery_id']} {delivery['event_type']} {delivery['state']}")
