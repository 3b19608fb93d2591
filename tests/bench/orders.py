"""The orders that every contender gets, the same for all, and what must be on the shelves for them."""

from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from random import Random
from uuid import UUID

from apps.cli.demo_plan import sample_orders
from contracts import Customer, OrderCreated, OrderLine

ARTICLES = 500
LINES = 3


def article(number: int) -> str:
    """The sku of one of them."""
    return f"article-{number:03}"


def made(count: int, seed: str) -> Iterator[OrderCreated]:
    """Orders of three lines over 500 articles; customers have a phone only, so that no mail is made."""
    random = Random(seed)  # noqa: S311  # a load, no secret
    for number in range(count):
        lines = tuple(
            OrderLine(
                sku=article(kind),
                description=f"WHITE METAL LANTERN NO {kind}",
                quantity=random.randint(1, 5),
                unit_price=Decimal(random.randint(100, 2000)).scaleb(-2),
            )
            for kind in random.sample(range(ARTICLES), LINES)
        )
        yield OrderCreated(
            order_id=_id(random),
            reference=f"{seed}-{number}",
            customer=Customer(
                id=f"customer-{random.randrange(10_000)}",
                name="Ana Souza",
                phone=f"+5511{random.randrange(10**8, 10**9)}",
                locale="en",
                country="BR",
            ),
            currency="BRL",
            lines=lines,
            total=sum((line.amount for line in lines), Decimal(0)),
            placed_at=datetime.now(UTC),
        )


def real(count: int, seed: str) -> Iterator[OrderCreated]:
    """The invoices of the data's sample over and over, each time under new ids, and told by phone."""
    random = Random(seed)  # noqa: S311
    sample = sample_orders()
    for number in range(count):
        order = sample[number % len(sample)]
        phone = f"+5511{random.randrange(10**8, 10**9)}"
        yield order.model_copy(
            update={
                "order_id": _id(random),
                "customer": Customer(id=order.customer.id, country=order.customer.country, phone=phone),
                "placed_at": datetime.now(UTC),
            }
        )


def orders(workload: str, count: int, seed: str) -> list[OrderCreated]:
    """So many orders of a workload; another seed gives others."""
    return list((made if workload == "three-lines" else real)(count, seed))


def units(many: Iterable[OrderCreated]) -> Counter[str]:
    """Units wanted of each sku."""
    wanted: Counter[str] = Counter()
    for order in many:
        wanted.update(order.quantities())
    return wanted


def _id(random: Random) -> UUID:
    return UUID(int=random.getrandbits(128), version=4)
