"""Live parts of pages: drawn once a second for all who see the same, however many look."""

import asyncio
import random
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import UUID

from pymongo.errors import PyMongoError
from starlette.datastructures import State
from starlette.exceptions import HTTPException
from structlog.stdlib import get_logger

from apps.console.audience import EVERYWHERE, VIEWS, Audience, Changes, View
from apps.console.changes import MOST_DRAWN, RECENT_SECONDS, Batch, Watch
from apps.console.rates import Rates
from apps.console.streams import Viewer, event, shown
from apps.kit.mongo import Database
from apps.kit.signals import is_stopping
from apps.orders.document import Order

_TICK_SECONDS = 1.0
_REST_SECONDS = 0.2
_LINGER_SECONDS = 30.0
"""Who goes from page to page finds the stream of changes still open."""
_DRAWING_SECONDS = 5.0
_LOOK_SECONDS = 0.25
_SPREAD_MS = 20
"""For each viewer: those who are told to look again do not all do so at once."""

log = get_logger()


class Live:
    """Everybody who looks, and what they are shown; runs from the first viewer until after the last."""

    def __init__(self, orders: Database) -> None:
        self.rates = Rates()
        self.database = orders
        self._orders = orders.collection(Order)
        self._watch = Watch(self._orders, self.rates)
        self._opened_at: float | None = None
        self._viewers: dict[Audience, set[Viewer]] = {}
        self._sent: dict[tuple[Audience, str], frozenset[str]] = {}
        self._behind_since: float | None = None
        self._due_again: dict[Audience, float] = {}
        self._running: asyncio.Task[None] | None = None

    @property
    def viewers(self) -> int:
        return sum(map(len, self._viewers.values()))

    def viewers_of(self, client: str) -> int:
        """How many of them see the orders of this client only."""
        return sum(len(viewers) for audience, viewers in self._viewers.items() if audience.client == client)

    @contextmanager
    def viewing(self, viewer: Viewer, audience: Audience, state: State) -> Iterator[None]:
        """Show a viewer what moves, while the context is open."""
        self._viewers.setdefault(audience, set()).add(viewer)
        if self._running is None:
            self._running = asyncio.create_task(self._run(state))
        try:
            yield
        finally:
            self._viewers[audience].discard(viewer)
            if not self._viewers[audience]:
                del self._viewers[audience]
                for key in [key for key in self._sent if key[0] == audience]:
                    del self._sent[key]
                self._due_again.pop(audience, None)

    async def close(self) -> None:
        """Let everybody go, who will come back to another process."""
        for viewer in self._everybody():
            viewer.end()
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)

    def _everybody(self) -> Sequence[Viewer]:
        return [viewer for viewers in self._viewers.values() for viewer in viewers]

    async def _run(self, state: State) -> None:
        ending = asyncio.create_task(self._end_with_process())
        seen = time.monotonic()
        try:
            while self._viewers or time.monotonic() - seen < _LINGER_SECONDS:
                began = time.monotonic()
                if self._viewers:
                    seen = began
                try:
                    await self._show(await self._watch.next(), state)
                except Exception:
                    log.exception("nothing was shown")  # the next second may be better
                    self._watch.miss()
                await asyncio.sleep(max(_REST_SECONDS, _TICK_SECONDS - (time.monotonic() - began)))
        finally:
            self._running = None  # whoever comes while the stream is being closed has a new one opened
            ending.cancel()
            await self._watch.close()

    async def _end_with_process(self) -> None:
        """The server waits for all answers to end before anything of ours is told of the stop."""
        while not is_stopping():  # noqa: ASYNC110  # it is uvicorn's to tell
            await asyncio.sleep(_LOOK_SECONDS)
        for viewer in self._everybody():
            viewer.end()

    async def _show(self, batch: Batch, state: State) -> None:
        self._note_staleness(batch)
        audiences = {audience: tuple(viewers) for audience, viewers in self._viewers.items()}
        recent = self._watch.recent if any(one.is_new for ones in audiences.values() for one in ones) else {}
        orders = await self._read({**recent, **batch.to_draw})
        everywhere = await self._draw_everywhere(audiences, state)
        await asyncio.gather(
            *(
                self._show_to(
                    audience, viewers, _Heard(batch, recent, orders), everywhere[audience.common], state
                )
                for audience, viewers in audiences.items()
            )
        )

    def _note_staleness(self, batch: Batch) -> None:
        """What happened while nobody listened, or was too much to be drawn, is in nobody's page."""
        if self._watch.opened_at != self._opened_at:
            self._opened_at = self._watch.opened_at
            for viewer in self._everybody():
                viewer.is_stale = True
            return
        # Who sees one client's orders is not told how many wait, and theirs may be among them.
        is_behind = self._is_behind(batch)
        for audience, viewers in self._viewers.items():
            if audience.is_list and (batch.is_caught_up or (is_behind and audience.client is not None)):
                for viewer in viewers:
                    viewer.is_stale = True

    def _is_behind(self, batch: Batch) -> bool:
        """Whether some orders have waited to be drawn for so long that it is to be said, again."""
        now = time.monotonic()
        if not batch.more:
            self._behind_since = None
        elif self._behind_since is None:
            self._behind_since = now
        elif now - self._behind_since >= RECENT_SECONDS:
            self._behind_since = now
            return True
        return False

    async def _show_to(
        self,
        audience: Audience,
        viewers: Sequence[Viewer],
        heard: "_Heard",
        everywhere: Sequence[str],
        state: State,
    ) -> None:
        what, newcomers = VIEWS[audience.view], [viewer for viewer in viewers if viewer.is_new]
        parts: Sequence[str] = ()
        changes = heard.changes(audience, heard.batch.to_draw, heard.batch.more)
        if what.each_tick or changes.orders or changes.more or self._is_due(audience, heard, newcomers):
            parts = await self._draw(what, audience, changes, state)
        if audience not in self._viewers:
            return  # they all left while it was drawn
        message = shown(
            [*self._unsent(audience, audience.view, parts), *self._unsent(audience, "", everywhere)]
        )
        if newcomers and audience.is_list:
            parts = await self._draw(what, audience, heard.changes(audience, heard.recent, 0), state)
        whole = shown([*parts, *everywhere])
        for viewer in viewers:
            text = (whole if viewer.is_new else message) + self._fresh(viewer, audience)
            if text:
                viewer.offer(text)
            viewer.is_new = False

    def _is_due(self, audience: Audience, heard: "_Heard", newcomers: Collection[Viewer]) -> bool:
        """Whether the one order that they look at may have changed.

        What follows from an event comes shortly after it, such as the deliveries of webhooks: hence again.
        """
        if (order_id := audience.order_id) is None:
            return False
        if order_id in heard.batch.changed:
            self._due_again[audience] = time.monotonic() + 2 * _TICK_SECONDS
            return True
        if time.monotonic() >= self._due_again.get(audience, float("inf")):
            del self._due_again[audience]
            return True
        return bool(newcomers)

    def _fresh(self, viewer: Viewer, audience: Audience) -> bytes:
        """Have a page read itself again that may lack something, once all that follows is heard."""
        if not viewer.is_stale or self._opened_at is None:
            return b""
        viewer.is_stale = False
        was_shown_all = not audience.is_list or len(self._watch.recent) < MOST_DRAWN
        if viewer.is_new and was_shown_all and time.monotonic() - self._opened_at > RECENT_SECONDS:
            return b""
        return event("fresh", random.randint(0, _SPREAD_MS * (self.viewers - 1)))  # noqa: S311  # no secret

    def _unsent(self, audience: Audience, name: str, parts: Sequence[str]) -> Sequence[str]:
        if not parts:
            return ()
        sent = self._sent.get((audience, name), frozenset())
        self._sent[audience, name] = frozenset(parts)
        return [part for part in parts if part not in sent]

    async def _draw_everywhere(
        self, audiences: Collection[Audience], state: State
    ) -> Mapping[Audience, Sequence[str]]:
        common = {audience.common for audience in audiences}
        if EVERYWHERE not in VIEWS:
            return dict.fromkeys(common, ())
        return {one: await self._draw(VIEWS[EVERYWHERE], one, Changes(), state) for one in common}

    async def _draw(self, what: View, audience: Audience, changes: Changes, state: State) -> Sequence[str]:
        try:
            async with asyncio.timeout(_DRAWING_SECONDS):
                return await what.draw(audience, changes, state)
        except Exception as error:
            # One page that cannot be drawn must not stop all others.
            is_known = isinstance(error, PyMongoError | TimeoutError | HTTPException)
            log.warning("a live part was not drawn", view=audience.view, exc_info=None if is_known else error)
            self._watch.miss()
            return ()

    async def _read(self, order_ids: Collection[UUID]) -> Mapping[UUID, Order]:
        """The orders as they are now; read once for all."""
        if not order_ids or not any(audience.is_list for audience in self._viewers):
            return {}
        try:
            async with asyncio.timeout(_DRAWING_SECONDS):
                found = await self._orders.find({"_id": {"$in": list(order_ids)}}).to_list(None)
        except (PyMongoError, TimeoutError):
            self._watch.miss()
            return {}
        return {document["_id"]: Order.model_validate_doc(document) for document in found}


@dataclass(frozen=True)
class _Heard:
    """What one tick is about."""

    batch: Batch
    recent: Mapping[UUID, bool]
    orders: Mapping[UUID, Order]

    def changes(self, audience: Audience, wanted: Mapping[UUID, bool], more: int) -> Changes:
        """As far as an audience may see; how much happens to the orders of others is none of its business."""
        if audience.order_id is not None:
            return Changes()
        seen = [
            order
            for order_id in wanted
            if (order := self.orders.get(order_id)) and audience.client in (None, order.client)
        ]
        new = frozenset(order.id for order in seen if wanted[order.id])
        return Changes(seen, new, more if audience.client is None else 0)
