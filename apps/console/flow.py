"""The first page: the pipeline as a map with what is in it now, and what is wrong with it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from starlette.datastructures import State

from apps.console.audience import EVERYWHERE, Audience, Changes, view
from apps.console.figures import Seen, figures_of
from apps.console.hub import Live
from apps.console.pages import first_page, page, redirect
from apps.console.queues import QUEUES, RETRY_QUEUES, QueueState
from apps.console.rates import BUCKET_SECONDS, Rates
from apps.kit.access import Caller, Scope, caller_of, may
from apps.kit.readings import MOST_COUNTED
from apps.kit.settings import get_settings
from apps.orders.domain import Status

PARTS = ("said", "health", "map", "figures", "rates", "queues")
"""Each one a template, and an element of the page that is replaced when it changes."""
LONG_BACKLOG = 500
SLOW_SECONDS = 60.0
"""As the alerts have them: see k8s/observability/rules/orderflow.yaml."""
_RUNBOOKS = "https://github.com/orderflow/orderflow/blob/main/docs/runbooks"

router = APIRouter()


@dataclass(frozen=True)
class Concern:
    """Something that is wrong; the template says it in words."""

    kind: str
    runbook: str | None = None
    app: str | None = None
    """In whose hands the orders are then."""
    about: Mapping[str, Any] = field(default_factory=dict)

    @property
    def runbook_url(self) -> str | None:
        return f"{_RUNBOOKS}/{self.runbook}.md" if self.runbook else None


def concerns(seen: Seen) -> list[Concern]:
    """All that is wrong, what customers notice first."""
    return [*_out_of_reach(seen), *_of_orders(seen), *_of_queues(seen), *_for_the_morning(seen)]


def _out_of_reach(seen: Seen) -> Iterator[Concern]:
    away = {name: state for name, state in seen.states.items() if state != "ok"}
    for name, reason in away.items():
        yield Concern("away", "waiting-for-dependency", about={"name": name, "reason": reason})
    unread = {
        "orders": seen.counts is None,
        "queues": seen.queues is None,
        "stuck": seen.stuck is None,
        "dead_letters": seen.dead_letters is None,
        "endpoints": seen.endpoints is None,
    }
    if not away and any(unread.values()):
        yield Concern("unread", about={"what": [name for name, is_so in unread.items() if is_so]})


def _of_orders(seen: Seen) -> Iterator[Concern]:
    waits = seen.unpublished_seconds or 0
    if waits > get_settings().unpublished_alarm_seconds:
        yield Concern("unpublished", "unpublished-orders", "ingress", {"seconds": waits})
    if seen.stuck:
        yield Concern("stuck", "stuck-orders", about={"count": seen.stuck})


def _of_queues(seen: Seen) -> Iterator[Concern]:
    for app, names in QUEUES.items():
        states = {name: seen.queues[name] for name in names} if seen.queues else {}
        idle = [name for name, state in states.items() if not state.consumers]
        if idle:
            yield Concern("no_consumer", "no-consumer", app, {"queues": idle})
        for name, state in states.items():
            if (state.messages or 0) > LONG_BACKLOG and name in seen.growing:
                about = {"queue": name, "count": state.messages}
                yield Concern("backlog", "backlog-growing", app, about)


def _for_the_morning(seen: Seen) -> Iterator[Concern]:
    if seen.dead_letters:
        yield Concern("dead_letters", "dead-letters", about={"count": seen.dead_letters})
    if seen.latency and seen.latency.p95_seconds > SLOW_SECONDS:
        yield Concern("slow", "slow-orders", about={"seconds": seen.latency.p95_seconds})
    if seen.endpoints and seen.endpoints["failing"]:
        about = {"count": seen.endpoints["failing"]}
        yield Concern("endpoints", "webhook-endpoint-failing", about=about)


@dataclass(frozen=True)
class AppQueues:
    """The queues of one app together."""

    app: str
    queues: Mapping[str, QueueState]

    @property
    def messages(self) -> int:
        return sum(state.messages or 0 for state in self.queues.values())

    @property
    def consumed(self) -> int:
        """How many of the queues have a consumer."""
        return sum(bool(state.consumers) for state in self.queues.values())


def context_of(seen: Seen, rates: Rates) -> dict[str, Any]:
    """What the parts of the page show."""
    found = concerns(seen)
    course = rates.course()
    return {
        "seen": seen,
        "concerns": found,
        "troubled": {one.app for one in found},
        "rates": {status: rates.per_second(status) for status in Status},
        "most": MOST_COUNTED,
        "apps": {
            app: AppQueues(app, {name: seen.queues[name] for name in names}) for app, names in QUEUES.items()
        }
        if seen.queues
        else None,
        "retries": {RETRY_QUEUES[name]: seen.queues[name] for name in RETRY_QUEUES} if seen.queues else None,
        "course": {
            "from": course.times[0],
            "step": BUCKET_SECONDS,
            "arrived": course.arrived,
            "ended": course.ended,
        },
        "arrived": _sum(course.arrived),
        "ended": _sum(course.ended),
        "peak": max((count for count in course.arrived if count), default=0) / BUCKET_SECONDS,
    }


async def _context(state: State) -> dict[str, Any]:
    live: Live = state.live
    return context_of(await figures_of(state).look(), live.rates)


def _sum(counts: Sequence[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


@router.get("/")
async def flow(request: Request, caller: Annotated[Caller, Depends(caller_of)]) -> Response:
    """The whole shop at a glance; who may not see it goes on to what they may."""
    if Scope.ORDERS_READ in caller.scopes and caller.client is not None:
        return redirect(request, "/orders")
    if (place := first_page(caller)) != "/":
        return redirect(request, place)
    await may(Scope.ORDERS_READ)(request)
    return page(request, "flow/page.html", **await _context(request.app.state))


@view("flow", each_tick=True, for_whole_shop=True)
async def flow_parts(audience: Audience, _changes: Changes, state: State) -> Sequence[str]:
    """What of the first page moves."""
    context = await _context(state)
    return [audience.render(f"flow/{part}.html", **context) for part in PARTS]


@view(EVERYWHERE)
async def dead_letter_badge(audience: Audience, _changes: Changes, state: State) -> Sequence[str]:
    """How many dead letters wait, beside the way to them."""
    if Scope.DEAD_LETTERS_MANAGE not in audience.scopes or audience.client is not None:
        return ()
    count = await figures_of(state).dead_letters.value()
    return [audience.render("flow/badge.html", count=count, most=MOST_COUNTED)]
