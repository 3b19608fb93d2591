"""Webhooks: which systems are told of events, whether they answer, and what was sent to each."""

from contextlib import suppress
from hashlib import sha256
from typing import Annotated, Any
from uuid import UUID, uuid4

from fastapi import APIRouter, Depends, Form, Query, Request, Response
from pydantic import ValidationError
from pymongo.errors import DuplicateKeyError

from apps.console.pages import gettext, page, redirect
from apps.console.webhook_log import attempted, figures_of
from apps.kit.validation import field_problems
from apps.webhooks import api
from apps.webhooks.api import Webhooks, manager
from apps.webhooks.domain import TOPICS, State
from apps.webhooks.endpoints import ChangedMeanwhileError, TooManyEndpointsError
from apps.webhooks.mongo import Endpoint
from apps.webhooks.views import EndpointChanges, EndpointView, EndpointWithSecret, NewEndpoint

_PER_PAGE = 25
_CONFLICT = 409

router = APIRouter(prefix="/webhooks", dependencies=[Depends(manager)])

Mark = Annotated[str, Form()]
"""What a form was made for: it is refused once that is another."""


@router.get("")
async def show_endpoints(request: Request, webhooks: Webhooks) -> Response:
    """All endpoints; those that need somebody first."""
    endpoints = (await api.list_endpoints(webhooks)).endpoints
    return page(request, "webhooks/list.html", endpoints=sorted(endpoints, key=_is_well))


@router.get("/new")
async def ask_new(request: Request) -> Response:
    """An empty form."""
    return _form(request, await _draft(request), mark=str(uuid4()))


@router.post("/new")
async def add(request: Request, webhooks: Webhooks, mark: Annotated[UUID, Form()]) -> Response:
    """Register it, and show its secret in this answer alone: no address, cookie or log has it."""
    draft = await _draft(request)
    try:
        new = NewEndpoint(**draft)
        # The id was made with the form: when this answer is loaded again, nothing is registered twice.
        endpoint, secret = await webhooks.add(new.url, new.event_types, new.description, mark)
    except ValidationError as error:
        return _form(request, draft, 422, _problems(error), mark=str(mark))
    except TooManyEndpointsError as error:
        return _form(request, draft, _CONFLICT, {"": str(error)}, mark=str(mark))
    except DuplicateKeyError:
        notice = gettext(request)(
            "This form has registered it already. Its secret is not shown again: rotate it if you lack it."
        )
        return redirect(request, f"/webhooks/{mark}", notice)
    added = EndpointWithSecret.of(endpoint, secret=secret)
    return page(request, "webhooks/secret.html", 201, endpoint=added, is_new=True)


@router.get("/{endpoint_id}")
async def show_endpoint(
    request: Request,
    endpoint_id: UUID,
    webhooks: Webhooks,
    state: State | None = None,
    cursor: Annotated[UUID | None, Query()] = None,
) -> Response:
    """One endpoint, and its log from the newest on."""
    return page(
        request,
        "webhooks/endpoint.html",
        endpoint=await api.show_endpoint(endpoint_id, webhooks),
        figures=await figures_of(endpoint_id, webhooks),
        log=await api.list_deliveries(endpoint_id, webhooks, state, _PER_PAGE, cursor),
        state=state,
        is_first=cursor is None,
    )


@router.get("/{endpoint_id}/change")
async def ask_change(request: Request, endpoint_id: UUID, webhooks: Webhooks) -> Response:
    """The form with what it is now."""
    endpoint = await api.show_endpoint(endpoint_id, webhooks)
    return _form(request, endpoint.model_dump(), endpoint=endpoint, mark=_mark_of(endpoint))


@router.post("/{endpoint_id}/change")
async def change(request: Request, endpoint_id: UUID, webhooks: Webhooks, mark: Mark = "") -> Response:
    """Change what differs: the same URL again would wipe its failures out."""
    endpoint, draft = await api.show_endpoint(endpoint_id, webhooks), await _draft(request)
    before, present = endpoint.model_dump(), _mark_of(endpoint)
    if mark != present:
        problem = gettext(request)("Somebody has changed it meanwhile. Compare, then send yours again.")
        return _form(request, draft, _CONFLICT, {"": problem}, endpoint, present)
    try:
        changes = EndpointChanges(**{name: new for name, new in draft.items() if new != before[name]})
    except ValidationError as error:
        return _form(request, draft, 422, _problems(error), endpoint, present)
    return await _changed(request, endpoint_id, changes, webhooks, gettext(request)("Changed."))


@router.post("/{endpoint_id}/enable")
async def enable(request: Request, endpoint_id: UUID, webhooks: Webhooks) -> Response:
    notice = gettext(request)("Enabled. What failed while it was disabled can be resent from the log.")
    return await _changed(request, endpoint_id, EndpointChanges(enabled=True), webhooks, notice)


@router.post("/{endpoint_id}/disable")
async def disable(request: Request, endpoint_id: UUID, webhooks: Webhooks) -> Response:
    notice = gettext(request)("Disabled. What happens from now on is not kept for it.")
    return await _changed(request, endpoint_id, EndpointChanges(enabled=False), webhooks, notice)


@router.get("/{endpoint_id}/rotate")
async def ask_rotate(request: Request, endpoint_id: UUID, webhooks: Webhooks) -> Response:
    """Say what comes of a new secret."""
    return _ask_rotate(request, await api.find_endpoint(endpoint_id, webhooks))


@router.post("/{endpoint_id}/rotate")
async def rotate(request: Request, endpoint_id: UUID, webhooks: Webhooks, mark: Mark = "") -> Response:
    """Give it a new secret, and show that in this answer alone."""
    endpoint = await api.find_endpoint(endpoint_id, webhooks)
    # To load this answer again must not end the secret that the receiver still uses.
    if mark == _mark_of_secret(endpoint):
        with suppress(ChangedMeanwhileError):
            endpoint, secret = await webhooks.rotate(endpoint)
            rotated = EndpointWithSecret.of(endpoint, secret=secret)
            return page(request, "webhooks/secret.html", endpoint=rotated, is_new=False)
    problem = gettext(request)("It has been given a new secret since this form was made.")
    return _ask_rotate(request, await api.find_endpoint(endpoint_id, webhooks), _CONFLICT, problem)


@router.get("/{endpoint_id}/delete")
async def ask_delete(request: Request, endpoint_id: UUID, webhooks: Webhooks) -> Response:
    """Say what is lost."""
    return page(request, "webhooks/delete.html", endpoint=await api.show_endpoint(endpoint_id, webhooks))


@router.post("/{endpoint_id}/delete")
async def delete(request: Request, endpoint_id: UUID, webhooks: Webhooks) -> Response:
    await api.delete_endpoint(endpoint_id, webhooks)
    return redirect(request, "/webhooks", gettext(request)("Deleted. Nothing more is sent there."))


@router.post("/{endpoint_id}/test")
async def send_test(request: Request, endpoint_id: UUID, webhooks: Webhooks) -> Response:
    """Send a test, and wait a moment for its answer."""
    sent = await api.test_endpoint(endpoint_id, webhooks)
    return redirect(request, f"/webhooks/{endpoint_id}", await attempted(request, sent, None, webhooks))


@router.post("/deliveries/{delivery_id}/resend")
async def resend(request: Request, delivery_id: UUID, webhooks: Webhooks) -> Response:
    """Send it again, and wait a moment for the answer."""
    before = await webhooks.delivery(delivery_id)
    sent = await api.resend_delivery(delivery_id, webhooks)
    way = f"/webhooks/{sent.endpoint_id}"
    last = before.attempts[-1]["at"] if before and before.attempts else None
    return redirect(request, way, await attempted(request, sent, last, webhooks))


async def _changed(
    request: Request, endpoint_id: UUID, changes: EndpointChanges, webhooks: Webhooks, notice: str
) -> Response:
    await api.change_endpoint(endpoint_id, changes, webhooks)
    return redirect(request, f"/webhooks/{endpoint_id}", notice)


async def _draft(request: Request) -> dict[str, Any]:
    """What somebody has typed."""
    form = await request.form()
    return {
        "url": str(form.get("url", "")).strip(),
        "event_types": [str(topic) for topic in form.getlist("event_types")],
        "description": str(form.get("description", "")).strip() or None,
    }


def _form(
    request: Request,
    draft: dict[str, Any],
    status: int = 200,
    problems: dict[str, str] | None = None,
    endpoint: EndpointView | None = None,
    mark: str = "",
) -> Response:
    return page(
        request,
        "webhooks/form.html",
        status,
        draft=draft,
        problems=problems or {},
        endpoint=endpoint,
        mark=mark,
        topics=TOPICS,
    )


def _ask_rotate(
    request: Request, endpoint: Endpoint, status: int = 200, problem: str | None = None
) -> Response:
    view, mark = EndpointView.of(endpoint), _mark_of_secret(endpoint)
    return page(request, "webhooks/rotate.html", status, endpoint=view, mark=mark, problem=problem)


def _mark_of(endpoint: EndpointView) -> str:
    """Tells what somebody was shown from what others made of it since."""
    shown = (endpoint.url, endpoint.event_types, endpoint.description)
    return sha256(repr(shown).encode()).hexdigest()


def _mark_of_secret(endpoint: Endpoint) -> str:
    return sha256(endpoint.secrets[0]["sealed"]).hexdigest()


def _problems(error: ValidationError) -> dict[str, str]:
    """What is wrong, by the field."""
    return {path.partition(".")[0]: text for path, text in field_problems(error.errors())}


def _is_well(endpoint: EndpointView) -> bool:
    return endpoint.enabled and endpoint.failing_since is None
