"""The map of the system as coordinates: who publishes, the event, whose queue consumes."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from apps.site.system import System

OUTSIDE = "outside"
"""Stands for the other systems that publish."""

WIDTH = 1000.0
_TOP = 44.0
_ROW = 52.0
_BOX = 40.0
_GAP = 14.0
_PORT = 7.0
_APP_WIDTH, _EVENT_WIDTH = 180.0, 270.0
_LEFT, _MIDDLE, _RIGHT = 0.0, (WIDTH - _EVENT_WIDTH) / 2, WIDTH - _APP_WIDTH


@dataclass(frozen=True)
class Node:
    """A box, by its upper left corner."""

    name: str
    x: float
    y: float
    width: float
    height: float

    @property
    def middle(self) -> float:
        return self.y + self.height / 2


@dataclass(frozen=True)
class Edge:
    """A curve between an app and an event."""

    app: str
    topic: str
    path: str


@dataclass(frozen=True)
class Map:
    """What is drawn, in the order in which the keyboard passes through it."""

    width: float
    height: float
    publishers: tuple[Node, ...]
    events: tuple[Node, ...]
    consumers: tuple[Node, ...]
    edges: tuple[Edge, ...]


def lay_out(system: System) -> Map:
    """Place every app beside the events that it sends or receives; the same system gives the same map."""
    senders = {
        event.topic: [OUTSIDE] * event.from_outside + [sending.app for sending in system.publishers_of(event)]
        for event in system.events
    }
    receivers = {
        event.topic: list(dict.fromkeys(queue.app for queue in system.queues_of(event)))
        for event in system.events
    }
    events = tuple(
        Node(event.topic, _MIDDLE, _TOP + row * _ROW, _EVENT_WIDTH, _BOX)
        for row, event in enumerate(system.events)
    )
    height = _TOP + len(events) * _ROW
    publishers = _column(senders, events, _LEFT, height)
    consumers = _column(receivers, events, _RIGHT, height)
    edges = (*_edges(publishers, events, senders), *_edges(consumers, events, receivers))
    return Map(WIDTH, height, publishers, events, consumers, edges)


def _column(
    apps_of: Mapping[str, Sequence[str]], events: Sequence[Node], x: float, height: float
) -> tuple[Node, ...]:
    """Each app as near as possible to the middle of its events, none over another."""
    middles: dict[str, list[float]] = defaultdict(list)
    for event in events:
        for app in apps_of[event.name]:
            middles[app].append(event.middle)
    wanted = []
    for app, its in middles.items():
        tall = max(_BOX, len(its) * _PORT + 2 * _PORT)
        wanted.append((sum(its) / len(its) - tall / 2, tall, app))
    nodes: list[Node] = []
    top = _TOP
    for y, tall, app in sorted(wanted):
        top = max(top, y)
        nodes.append(Node(app, x, top, _APP_WIDTH, tall))
        top += tall + _GAP
    # What was pushed out below moves up again, and takes along what is in its way.
    bottom = height - (_ROW - _BOX)
    for position in reversed(range(len(nodes))):
        node = nodes[position]
        nodes[position] = node = Node(
            node.name, x, min(node.y, bottom - node.height), node.width, node.height
        )
        bottom = node.y - _GAP
    return tuple(nodes)


def _edges(
    apps: Sequence[Node], events: Sequence[Node], apps_of: Mapping[str, Sequence[str]]
) -> Iterator[Edge]:
    """Curves that leave an app's box side by side, in the order of the events that they lead to."""
    for app in apps:
        its = [event for event in events if app.name in apps_of[event.name]]
        spacing = app.height / (len(its) + 1)
        for port, event in enumerate(its, start=1):
            at_app = app.y + port * spacing
            if app.x < event.x:
                yield Edge(app.name, event.name, _curve(app.x + app.width, at_app, event.x, event.middle))
            else:
                yield Edge(app.name, event.name, _curve(event.x + event.width, event.middle, app.x, at_app))


def _curve(x1: float, y1: float, x2: float, y2: float) -> str:
    bend = (x1 + x2) / 2
    return f"M{x1:.1f} {y1:.1f}C{bend:.1f} {y1:.1f} {bend:.1f} {y2:.1f} {x2:.1f} {y2:.1f}"
