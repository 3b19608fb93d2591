"""What open pages of the console cost: orders per second while many look on, and while nobody does."""

import asyncio
import re
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import httpx

from apps.access.domain import new_key
from apps.cli.local.api_key import make_valid
from apps.cli.local.ports import LOOPBACK, free_port
from tests.bench.calm import calm
from tests.bench.contender import Place
from tests.bench.contenders.orderflow import Orderflow
from tests.bench.ingress import ready
from tests.bench.orders import orders
from tests.bench.reach import Record
from tests.bench.rounds import WARM_UP, session, timing
from tests.bench.services import Services

STREAMS = ("flow", "orders")
"""Half of the viewers look at each."""
_SETTLE_SECONDS = 5.0


class WithIngress(Orderflow):
    """As in all other measures, and an ingress beside it that shows the console."""

    def __init__(self) -> None:
        super().__init__()
        self.key = new_key()
        self.port = free_port()

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    def commands(self, place: Place) -> Mapping[str, Sequence[str]]:
        workers = super().commands(place)
        environment = workers["orders"][: workers["orders"].index(sys.executable)]
        listen = ("--host", LOOPBACK, "--port", str(self.port), "--no-access-log")
        uvicorn = (sys.executable, "-m", "uvicorn", "apps.ingress.api:api", *listen)
        return {**workers, "ingress": [*environment, *uvicorn]}

    async def prepare(self, place: Place, stock: Mapping[str, int]) -> None:
        await super().prepare(place, stock)
        await make_valid(self.key, place.mongodb_url, place.database)


class _Page(asyncio.Protocol):
    """A browser's end of a stream, as light as can be: it counts what comes."""

    def __init__(self) -> None:
        self.received = 0
        self.is_open = True
        self.was_dropped = False

    def data_received(self, data: bytes) -> None:
        self.received += len(data)
        self.was_dropped = self.was_dropped or b"event: drop" in data

    def connection_lost(self, _error: Exception | None) -> None:
        self.is_open = False


async def measure(
    services: Services, counts: Sequence[int], rounds: int, many: int, logs: Path, say: Callable[[str], None]
) -> list[Record]:
    """Load the same workers with each number of viewers in turn, in every round from an empty database.

    Raises:
        AssertionError: a viewer was let go, or was shown nothing.
    """
    found: list[Record] = []
    for number in range(1, rounds + 1):
        # Who comes first changes, since the second finds warmer services.
        for count in counts if number % 2 else reversed(counts):
            found += await calm(partial(_round, services, count, number, many, logs / f"{count}"), say)
            say(f"{number}, {count} viewers: {found[-1]['orders_per_second']:.0f} orders/s")
    return found


async def _round(services: Services, count: int, number: int, many: int, logs: Path) -> list[Record]:
    load, warm_up = (orders("three-lines", size, f"viewers-{number}-{size}") for size in (many, WARM_UP))
    who = WithIngress()
    async with session(services, who, load, logs, warm_up=warm_up) as one:
        await ready(f"{who.url}/health/ready")
        async with _viewers(who, count) as pages:
            before = sum(page.received for page in pages)
            with one.measured(many) as record:
                run = await one.flood(load)
            received = sum(page.received for page in pages) - before
            assert all(page.is_open and not page.was_dropped for page in pages), "a viewer was let go"
            assert not pages or received, "nothing was shown"
    shown = {"received_kib": round(received / 1024)}
    return [{"measure": "viewers", "viewers": count, "round": number, **timing(many, run), **record, **shown}]


@asynccontextmanager
async def _viewers(who: WithIngress, count: int) -> AsyncIterator[Sequence[_Page]]:
    """So many open pages, all of them shown their beginning."""
    cookie = await _signed_in(who)
    loop = asyncio.get_running_loop()
    transports, pages = [], []
    try:
        for number in range(count):
            transport, page = await loop.create_connection(_Page, LOOPBACK, who.port)
            stream = STREAMS[number % len(STREAMS)]
            head = f"GET /console/live/{stream} HTTP/1.1\r\nHost: {LOOPBACK}\r\nCookie: {cookie}\r\n\r\n"
            transport.write(head.encode())
            transports.append(transport)
            pages.append(page)
        await asyncio.sleep(_SETTLE_SECONDS)
        yield pages
    finally:
        for transport in transports:
            transport.close()


async def _signed_in(who: WithIngress) -> str:
    """The session's cookie."""
    async with httpx.AsyncClient(base_url=who.url, trust_env=False) as client:
        form = (await client.get("/console/sign-in")).text
        fields = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', form))
        answer = await client.post("/console/sign-in", data={**fields, "key": who.key})
        if not answer.is_redirect:
            raise RuntimeError(f"not signed in: {answer.status_code}")
        return "; ".join(f"{name}={value}" for name, value in client.cookies.items())
