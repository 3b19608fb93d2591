"""The delivery loop: what is due is sent, side by side, and no endpoint waits for another."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from uuid import UUID

from pymongo.errors import PyMongoError
from structlog.stdlib import get_logger

from apps.kit.clock import utc_now
from apps.kit.metrics import WEBHOOK_ATTEMPTS
from apps.kit.publishing import Publish, PublishFailed
from apps.kit.settings import get_settings
from apps.kit.tracing import continued
from apps.webhooks.condition import MongoCondition
from apps.webhooks.domain import Attempt, State, next_attempt_at
from apps.webhooks.mongo import Delivery, Endpoint, MongoOutbox
from apps.webhooks.sender import Sender
from apps.webhooks.signing import UnreadableSecretError, signed_headers

_POLL_SECONDS = 0.5
_BEFORE_ALL = UUID(int=0)

log = get_logger()


class Deliverer:
    """Claims due deliveries in MongoDB and attempts each; the claim of a process that died lapses."""

    def __init__(
        self,
        outbox: MongoOutbox,
        condition: MongoCondition,
        sender: Sender,
        publish: Publish,
    ) -> None:
        for outcome in ("delivered", "failed"):  # as 0: Prometheus sees no increase in what begins at 1
            WEBHOOK_ATTEMPTS.labels(outcome)
        settings = get_settings()
        self._outbox = outbox
        self._condition = condition
        self._sender = sender
        self._publish = publish
        self._most = settings.webhook_concurrency
        self._most_to_others = self._most - self._most // 4
        self._most_per_endpoint = settings.webhook_concurrency_per_endpoint
        self._delays_seconds = settings.webhook_retry_delays_seconds
        self._drain_seconds = settings.drain_timeout_seconds
        self._lease = timedelta(seconds=2 * settings.webhook_timeout_seconds + 5)
        self._running: set[asyncio.Task[None]] = set()
        self._running_of: Counter[UUID] = Counter()
        self._answering: set[UUID] = set()
        """Endpoints that took what they were last sent by this process."""
        self._last = {True: _BEFORE_ALL, False: _BEFORE_ALL}
        """Whose turn was the latest, where all take turns and where only those do that answer."""
        self._freed = asyncio.Event()
        self._end_by: float | None = None
        """When attempts have to end, by the monotonic clock; None until this process is to stop."""

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Deliver while the context is open; then let what has begun end, within the drain timeout."""
        loops = [asyncio.create_task(self._deliver()), asyncio.create_task(self._announce())]
        try:
            yield
        finally:
            end_by = self.stop_claiming()
            for loop in loops:
                loop.cancel()
            await asyncio.gather(*loops, return_exceptions=True)
            if attempts := list(self._running):
                await asyncio.wait(attempts, timeout=max(0, end_by - time.monotonic()))
                for attempt in attempts:
                    attempt.cancel()
                await asyncio.gather(*attempts, return_exceptions=True)

    def stop_claiming(self) -> float:
        """Leave to others what is due; the drain timeout begins, unless it has. Returns when it is over."""
        if self._end_by is None:
            self._end_by = time.monotonic() + self._drain_seconds
        return self._end_by

    async def _deliver(self) -> None:
        while self._end_by is None:
            self._freed.clear()
            try:
                while self._has_room() and (delivery := await self._claim()):
                    self._start(delivery)
            except PyMongoError as error:
                log.warning("deliveries wait", error=type(error).__name__)
                await asyncio.sleep(_POLL_SECONDS)
            except Exception:  # a loop that ended would leave deliveries behind, and nobody would know
                log.exception("delivery loop failed")
                await asyncio.sleep(_POLL_SECONDS)
            # Not wait_for: before Python 3.12 it may swallow the cancellation that is to end the loop.
            with suppress(TimeoutError):
                async with asyncio.timeout(_POLL_SECONDS):
                    await self._freed.wait()

    def _has_room(self) -> bool:
        return self._end_by is None and len(self._running) < self._most

    async def _claim(self) -> Delivery | None:
        """The next due delivery, the endpoints taking turns; some places are only for those that answer."""
        to_others = sum(
            count for endpoint_id, count in self._running_of.items() if endpoint_id not in self._answering
        )
        is_for_all = to_others < self._most_to_others
        among = None if is_for_all else self._answering
        full = [
            endpoint_id
            for endpoint_id, count in self._running_of.items()
            if count >= (self._most_per_endpoint if endpoint_id in self._answering else 1)
        ]
        after = self._last[is_for_all]
        delivery = await self._outbox.claim(after, self._lease, passed_over=full, among=among)
        if delivery is None and after != _BEFORE_ALL:
            delivery = await self._outbox.claim(_BEFORE_ALL, self._lease, passed_over=full, among=among)
        self._last[is_for_all] = delivery.endpoint_id if delivery else _BEFORE_ALL
        return delivery

    def _start(self, delivery: Delivery) -> None:
        endpoint_id = delivery.endpoint_id
        self._running_of[endpoint_id] += 1
        task = asyncio.create_task(self._attempt(delivery))
        self._running.add(task)

        def ended(task: asyncio.Task[None]) -> None:
            self._running.discard(task)
            self._running_of[endpoint_id] -= 1
            if not self._running_of[endpoint_id]:
                del self._running_of[endpoint_id]
            self._freed.set()

        task.add_done_callback(ended)

    async def _attempt(self, delivery: Delivery) -> None:
        with continued(delivery.trace):
            await self._attempt_in_trace(delivery)

    async def _attempt_in_trace(self, delivery: Delivery) -> None:
        try:
            endpoint = await self._outbox.endpoint(delivery.endpoint_id)
            if endpoint is None or not endpoint.enabled:
                attempt = Attempt(at=utc_now(), duration_ms=0, error="the endpoint is disabled")
                await self._outbox.finish(delivery, attempt, State.FAILED)
                return
            attempt = await self._send(delivery, endpoint)
            await self._note(delivery, endpoint, attempt)
        except PyMongoError as error:
            # Its lease lapses, and it is attempted once more.
            log.warning("attempt not noted", delivery_id=str(delivery.id), error=type(error).__name__)
        except Exception:
            log.exception("attempt failed", delivery_id=str(delivery.id))

    async def _send(self, delivery: Delivery, endpoint: Endpoint) -> Attempt:
        now = utc_now()
        try:
            headers = signed_headers(delivery.webhook_id, delivery.body, endpoint.secrets, now)
        except UnreadableSecretError as error:
            return Attempt(at=now, duration_ms=0, error=str(error))
        return await self._sender.post(endpoint.url, headers, delivery.body)

    async def _note(self, delivery: Delivery, endpoint: Endpoint, attempt: Attempt) -> None:
        tries = delivery.tries + 1
        if attempt.is_success:
            state, due_at = State.DELIVERED, None
            self._answering.add(endpoint.id)
            await self._condition.succeeded(endpoint)
        else:
            self._answering.discard(endpoint.id)
            is_disabled = await self._condition.failed(endpoint, attempt)
            spread = random.uniform(-1, 1)  # noqa: S311  # spreads what failed together, no secret
            due_at = next_attempt_at(tries, self._delays_seconds, attempt, spread)
            state = State.FAILED if is_disabled or due_at is None else State.PENDING
        await self._outbox.finish(delivery, attempt, state, due_at)
        WEBHOOK_ATTEMPTS.labels("delivered" if attempt.is_success else "failed").inc()
        log.info(
            "attempted",
            delivery_id=str(delivery.id),
            endpoint_id=str(endpoint.id),
            event_type=delivery.event_type,
            outcome=attempt.outcome,
            tries=tries,
            state=state,
        )

    async def _announce(self) -> None:
        """Publish that endpoints are disabled, until RabbitMQ has confirmed it."""
        while True:
            try:
                for event in await self._condition.unannounced():
                    await self._publish(event)
                    await self._condition.announced(event)
            except (PublishFailed, PyMongoError) as error:
                log.warning("announcement waits", error=type(error).__name__)
            except Exception:
                log.exception("announcing failed")
            await asyncio.sleep(_POLL_SECONDS)
