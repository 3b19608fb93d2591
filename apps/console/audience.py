"""Who looks at what: a page's module draws what moves in it, once for all who see the same.

It says so by `@view("orders")`; its template names the stream, `{% set live = root ~ "/live/orders" %}`.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any
from uuid import UUID

from starlette.datastructures import State

from apps.console.pages import may_see, render
from apps.kit.access import Caller, Scope
from apps.kit.settings import get_settings
from apps.kit.wording import Language
from apps.orders.document import Order

EVERYWHERE = "everywhere"
ORDER = "order"


@dataclass(frozen=True)
class Audience:
    """Viewers who see the same: what is drawn for one of them is drawn for all."""

    view: str
    language: Language
    root: str
    """What comes before every path of the console."""
    scopes: frozenset[Scope]
    client: str | None = None
    """The client whose orders only they see; None sees all."""
    order_id: UUID | None = None
    """The one order that they look at."""

    @property
    def is_list(self) -> bool:
        """Whether they look at orders one below another."""
        return self.order_id is None and not VIEWS[self.view].each_tick

    @property
    def common(self) -> "Audience":
        """All who see the same on whatever page."""
        return replace(self, view=EVERYWHERE, order_id=None)

    def render(self, template: str, **context: Any) -> str:
        """A part of a page for all of them, so without what belongs to one: no form, no caller."""
        caller = Caller("", self.scopes, self.client)
        return render(
            template,
            self.language,
            root=self.root,
            may=partial(may_see, caller),
            is_development=get_settings().environment == "development",
            **context,
        )


@dataclass(frozen=True)
class Changes:
    """What became of the orders that an audience may see, since it was last shown."""

    orders: Sequence[Order] = ()
    """As they are now, the latest first, 20 at most."""
    new: frozenset[UUID] = frozenset()
    """Those of them that are new; all others were there before."""
    more: int = 0
    """How many others changed that are not among them."""


Draw = Callable[[Audience, Changes, State], Awaitable[Sequence[str]]]
"""Gives parts of a page, each one element with an id; takes the console's `app.state` to read from."""


@dataclass(frozen=True)
class View:
    """What can be looked at live."""

    draw: Draw
    each_tick: bool
    scope: Scope
    for_whole_shop: bool
    is_page: bool
    """Whether there is a stream of that name."""


VIEWS: dict[str, View] = {}


def view(
    name: str, *, each_tick: bool = False, scope: Scope = Scope.ORDERS_READ, for_whole_shop: bool = False
) -> Callable[[Draw], Draw]:
    """Have a function draw what moves in a page: after changes of orders, and for whoever begins to look.

    The stream of `order` is `/live/orders/{order_id}`, of all others `/live/{name}`. `order` is drawn after
    each change of its order, which is in `audience.order_id`, and is given none to draw.

    Args:
        name: that of the view; `everywhere` is drawn for every audience.
        each_tick: draw it once a second, whether an order changed or not; what is drawn the same as before
            is not sent again.
        scope: that its viewers need.
        for_whole_shop: refuse it to those who are bound to one client.
    """

    def register(draw: Draw) -> Draw:
        VIEWS[name] = View(draw, each_tick, scope, for_whole_shop, name not in (EVERYWHERE, ORDER))
        return draw

    return register
