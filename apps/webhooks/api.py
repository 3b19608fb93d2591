"""Webhook endpoints over HTTP: register them, change them, test them, and see what was delivered."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request, Response

from apps.kit.access import Caller, Scope, may
from apps.kit.problems import Problem, ProblemError, Responses, invalid
from apps.webhooks.domain import State
from apps.webhooks.endpoints import (
    ChangedMeanwhileError,
    EndpointDisabledError,
    MongoEndpoints,
    TooManyEndpointsError,
)
from apps.webhooks.mongo import Delivery, Endpoint
from apps.webhooks.views import (
    DeliveryPage,
    DeliveryView,
    EndpointChanges,
    Endpoints,
    EndpointView,
    EndpointWithSecret,
    NewEndpoint,
)


async def manager(caller: Annotated[Caller, Depends(may(Scope.WEBHOOKS_MANAGE))]) -> Caller:
    """Endpoints receive the events of all clients, so nobody who is bound to one may register any."""
    if caller.client is not None:
        raise ProblemError(403, "A caller that is bound to one client cannot manage webhooks")
    return caller


async def webhook_endpoints(request: Request) -> MongoEndpoints:
    endpoints: MongoEndpoints = request.app.state.webhook_endpoints
    return endpoints


router = APIRouter(prefix="/v1", tags=["webhooks"], dependencies=[Depends(manager)])

Webhooks = Annotated[MongoEndpoints, Depends(webhook_endpoints)]

_NOT_FOUND: Responses = {404: {"model": Problem, "description": "There is no such endpoint or delivery."}}
_REFUSED: Responses = {409: {"model": Problem, "description": "It cannot be done now, and why."}}


@router.post("/webhook-endpoints", status_code=201, summary="Register a webhook endpoint", responses=_REFUSED)
async def add_endpoint(new: NewEndpoint, webhooks: Webhooks, response: Response) -> EndpointWithSecret:
    """It receives every event from now on that its filter lets through; the secret is shown only here."""
    with _problems():
        endpoint, secret = await webhooks.add(new.url, new.event_types, new.description)
    response.headers["Location"] = f"/v1/webhook-endpoints/{endpoint.id}"
    return EndpointWithSecret.of(endpoint, secret=secret)


@router.get("/webhook-endpoints", summary="List webhook endpoints")
async def list_endpoints(webhooks: Webhooks) -> Endpoints:
    return Endpoints(endpoints=[EndpointView.of(endpoint) for endpoint in await webhooks.list()])


@router.get("/webhook-endpoints/{endpoint_id}", summary="One webhook endpoint", responses=_NOT_FOUND)
async def show_endpoint(endpoint_id: UUID, webhooks: Webhooks) -> EndpointView:
    return EndpointView.of(await find_endpoint(endpoint_id, webhooks))


@router.patch("/webhook-endpoints/{endpoint_id}", summary="Change a webhook endpoint", responses=_NOT_FOUND)
async def change_endpoint(endpoint_id: UUID, changes: EndpointChanges, webhooks: Webhooks) -> EndpointView:
    """What is left out stays. Enabled again, it also receives what is still waiting for it.

    What happened while it was disabled for its failures is in its log as failed, and can be resent. Of the
    time that it is disabled by hand, nothing is kept.
    """
    given = changes.model_dump(exclude_unset=True)
    return EndpointView.of(_found(await webhooks.change(endpoint_id, given), endpoint_id))


@router.delete(
    "/webhook-endpoints/{endpoint_id}",
    status_code=204,
    summary="Delete a webhook endpoint",
    responses=_NOT_FOUND,
)
async def delete_endpoint(endpoint_id: UUID, webhooks: Webhooks) -> None:
    """Nothing more is sent to it; an attempt that is under way ends."""
    if not await webhooks.delete(endpoint_id):
        raise _no_endpoint(endpoint_id)


@router.post(
    "/webhook-endpoints/{endpoint_id}/rotate-secret",
    summary="Give a webhook endpoint a new secret",
    responses={**_NOT_FOUND, **_REFUSED},
)
async def rotate_secret(endpoint_id: UUID, webhooks: Webhooks) -> EndpointWithSecret:
    """For 24 hours each delivery is signed with both secrets; a second rotation ends the oldest at once."""
    with _problems():
        endpoint, secret = await webhooks.rotate(await find_endpoint(endpoint_id, webhooks))
    return EndpointWithSecret.of(endpoint, secret=secret)


@router.post(
    "/webhook-endpoints/{endpoint_id}/test",
    status_code=202,
    summary="Send a test to a webhook endpoint",
    responses={**_NOT_FOUND, **_REFUSED},
)
async def test_endpoint(endpoint_id: UUID, webhooks: Webhooks) -> DeliveryView:
    """It goes the way of every event, whatever the filter; the log shows what became of it."""
    with _problems():
        return DeliveryView.of(await webhooks.test(await find_endpoint(endpoint_id, webhooks)))


@router.get(
    "/webhook-endpoints/{endpoint_id}/deliveries",
    summary="What was sent to a webhook endpoint",
    responses=_NOT_FOUND,
)
async def list_deliveries(
    endpoint_id: UUID,
    webhooks: Webhooks,
    state: Annotated[State | None, Query(description="Only those.")] = None,
    limit: Annotated[int, Query(ge=1, le=200, description="Most on a page.")] = 50,
    cursor: Annotated[UUID | None, Query(description="`next_cursor` of the page before.")] = None,
) -> DeliveryPage:
    """Newest first, with every attempt and the beginning of its answer."""
    await find_endpoint(endpoint_id, webhooks)
    after = await _position(cursor, endpoint_id, webhooks)
    found = await webhooks.deliveries(endpoint_id, state, after, limit + 1)
    page = found[:limit]
    return DeliveryPage(
        deliveries=[DeliveryView.of(delivery) for delivery in page],
        next_cursor=page[-1].id if len(found) > limit else None,
    )


@router.post(
    "/webhook-deliveries/{delivery_id}/resend",
    status_code=202,
    summary="Send a delivery again",
    responses={**_NOT_FOUND, **_REFUSED},
)
async def resend_delivery(delivery_id: UUID, webhooks: Webhooks) -> DeliveryView:
    """It is due at once, with the same `webhook-id` and the same bytes, also if it was delivered."""
    delivery = await webhooks.delivery(delivery_id)
    if delivery is None:
        raise ProblemError(404, f"There is no webhook delivery {delivery_id}")
    with _problems():
        return DeliveryView.of(await webhooks.resend(delivery))


async def find_endpoint(endpoint_id: UUID, webhooks: MongoEndpoints) -> Endpoint:
    return _found(await webhooks.find(endpoint_id), endpoint_id)


def _found(endpoint: Endpoint | None, endpoint_id: UUID) -> Endpoint:
    if endpoint is None:
        raise _no_endpoint(endpoint_id)
    return endpoint


def _no_endpoint(endpoint_id: UUID) -> ProblemError:
    return ProblemError(404, f"There is no webhook endpoint {endpoint_id}")


async def _position(cursor: UUID | None, endpoint_id: UUID, webhooks: MongoEndpoints) -> Delivery | None:
    """The last delivery of the page before."""
    if cursor is None:
        return None
    delivery = await webhooks.delivery(cursor)
    if delivery is None or delivery.endpoint_id != endpoint_id:
        raise invalid("cursor", "is no cursor of this log, or of a page that has expired")
    return delivery


@contextmanager
def _problems() -> Iterator[None]:
    """Refusals as answers."""
    try:
        yield
    except (TooManyEndpointsError, ChangedMeanwhileError, EndpointDisabledError) as error:
        raise ProblemError(409, str(error)) from error
