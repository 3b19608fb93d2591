"""MongoDB as the driver sees it: how long commands take, what its pools hold, which servers are there."""

from collections import Counter

from pymongo.monitoring import (
    CommandFailedEvent,
    CommandListener,
    CommandStartedEvent,
    CommandSucceededEvent,
    ConnectionCheckedInEvent,
    ConnectionCheckedOutEvent,
    ConnectionCheckOutFailedEvent,
    ConnectionCheckOutStartedEvent,
    ConnectionClosedEvent,
    ConnectionCreatedEvent,
    ConnectionPoolListener,
    ConnectionReadyEvent,
    PoolClearedEvent,
    PoolClosedEvent,
    PoolCreatedEvent,
    PoolReadyEvent,
    ServerClosedEvent,
    ServerDescriptionChangedEvent,
    ServerListener,
    ServerOpeningEvent,
)

from apps.kit.metrics import MONGODB_COMMAND_DURATION, MONGODB_CONNECTIONS, MONGODB_SERVERS

_COMMANDS = (
    *("find", "getMore", "aggregate", "count", "distinct"),
    *("insert", "update", "delete", "findAndModify"),
    *("commitTransaction", "abortTransaction", "endSessions"),
    *("hello", "ping", "listCollections", "listIndexes", "create", "createIndexes"),
)
_STATES = {"RSPrimary": "primary", "RSSecondary": "secondary", "Unknown": "unknown"}
_MICROSECONDS = 1_000_000


class CommandMetrics(CommandListener):
    """Observes each command."""

    def __init__(self) -> None:
        # Made once: looking one up costs as much as observing it.
        self._durations = {name: MONGODB_COMMAND_DURATION.labels(name) for name in _COMMANDS}
        self._others = MONGODB_COMMAND_DURATION.labels("other")

    def started(self, event: CommandStartedEvent) -> None:
        pass

    def succeeded(self, event: CommandSucceededEvent) -> None:
        self._observe(event)

    def failed(self, event: CommandFailedEvent) -> None:
        self._observe(event)

    def _observe(self, event: CommandSucceededEvent | CommandFailedEvent) -> None:
        duration = self._durations.get(event.command_name, self._others)
        duration.observe(event.duration_micros / _MICROSECONDS)


class ConnectionMetrics(ConnectionPoolListener):
    """Counts the connections of all pools of the process."""

    def __init__(self) -> None:
        self._idle = MONGODB_CONNECTIONS.labels("idle")
        self._in_use = MONGODB_CONNECTIONS.labels("in_use")

    def connection_created(self, event: ConnectionCreatedEvent) -> None:  # noqa: ARG002
        self._idle.inc()

    def connection_checked_out(self, event: ConnectionCheckedOutEvent) -> None:  # noqa: ARG002
        self._idle.dec()
        self._in_use.inc()

    def connection_checked_in(self, event: ConnectionCheckedInEvent) -> None:  # noqa: ARG002
        self._in_use.dec()
        self._idle.inc()

    def connection_closed(self, event: ConnectionClosedEvent) -> None:  # noqa: ARG002
        self._idle.dec()  # the driver has it checked in before

    def pool_created(self, event: PoolCreatedEvent) -> None: ...
    def pool_ready(self, event: PoolReadyEvent) -> None: ...
    def pool_cleared(self, event: PoolClearedEvent) -> None: ...
    def pool_closed(self, event: PoolClosedEvent) -> None: ...
    def connection_ready(self, event: ConnectionReadyEvent) -> None: ...
    def connection_check_out_started(self, event: ConnectionCheckOutStartedEvent) -> None: ...
    def connection_check_out_failed(self, event: ConnectionCheckOutFailedEvent) -> None: ...


class ServerMetrics(ServerListener):
    """Counts each server once, however many clients of the process know it."""

    def __init__(self) -> None:
        self._states: dict[tuple[str, int | None], str] = {}

    def opened(self, event: ServerOpeningEvent) -> None:
        self._note(event.server_address, "unknown")

    def description_changed(self, event: ServerDescriptionChangedEvent) -> None:
        state = _STATES.get(event.new_description.server_type_name, "other")
        self._note(event.server_address, state)

    def closed(self, event: ServerClosedEvent) -> None:
        self._note(event.server_address, None)

    def _note(self, address: tuple[str, int | None], state: str | None) -> None:
        self._states.pop(address, None)
        if state is not None:
            self._states[address] = state
        counts = Counter(self._states.values())
        for name in ("primary", "secondary", "other", "unknown"):
            MONGODB_SERVERS.labels(name).set(counts[name])


LISTENERS = (CommandMetrics(), ConnectionMetrics(), ServerMetrics())
"""For every client of the process."""
