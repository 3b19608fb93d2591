"""Connections for webhooks: made to the very address that was checked, whatever its name says next."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

import httpcore

from apps.webhooks.destinations import Destinations

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""Finds all addresses of a host."""

_CONNECT_TIMEOUT_SECONDS = 5.0


class ForbiddenDestinationError(Exception):
    """A host has an address that webhooks must not reach; which one is nobody's business outside."""

    def __init__(self, host: str) -> None:
        super().__init__(f"{host} leads to an address that webhooks must not reach")


class Resolver:
    """The system's resolver in threads of its own: one slow name must not hold up all others."""

    def __init__(self, threads: int) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="resolver")

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        """All addresses of a host, each once, the preferred first.

        Raises:
            OSError: it has none, or they cannot be found out.
        """
        found = await asyncio.get_running_loop().run_in_executor(
            self._threads, lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        )
        return list(dict.fromkeys(str(address[0]) for *_, address in found))


class GuardedNetwork(httpcore.AsyncNetworkBackend):
    """Looks a name up, refuses it if any of its addresses is forbidden, and connects to one of them.

    TLS and the `Host` header go on using the name, since only the connection is made by address.
    """

    def __init__(
        self,
        destinations: Destinations,
        resolve: Resolve,
        network: httpcore.AsyncNetworkBackend | None = None,
    ) -> None:
        self._destinations = destinations
        self._resolve = resolve
        self._network = network or httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ARG002, ASYNC109  # as httpcore has it
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to the first address that answers.

        Raises:
            ForbiddenDestinationError: one of the addresses must not be reached; none was tried.
            httpcore.ConnectError, httpcore.ConnectTimeout: there is none, or none answers.
        """
        try:
            addresses = await self._resolve(host, port)
        except (OSError, UnicodeError):
            raise httpcore.ConnectError(f"the name {host} could not be looked up") from None
        if not addresses or not all(self._destinations.allows(address, port) for address in addresses):
            raise ForbiddenDestinationError(host)
        failure: Exception = httpcore.ConnectError("no address")
        for address in addresses:
            try:
                return await self._network.connect_tcp(
                    address, port, _CONNECT_TIMEOUT_SECONDS, local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure
