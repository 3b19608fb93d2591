"""Orders to try the system with, of what is on its shelves."""

import random
from typing import Any

from apps.kit.mongo import Database
from apps.kit.wording import Language
from apps.orders.views import NewOrder
from apps.stock.document import StockLevel

_MOST_LINES = 3
_MOST_UNITS = 3
_LOOKED_AT = 50
_PRICES = ("1.45", "2.55", "3.39", "7.95", "12.75")
_LOCALES = {Language.ENGLISH: ("en-GB", "GB"), Language.BRAZILIAN_PORTUGUESE: ("pt-BR", "BR")}


async def sample_order(stock: Database, language: Language) -> NewOrder | None:
    """An order for up to three articles that can be delivered; None if there are none."""
    on_shelves = {"$or": [{"available": {"$gt": 0}}, {"available": None}]}
    levels = await stock.collection(StockLevel).find(on_shelves).limit(_LOOKED_AT).to_list()
    if not levels:
        return None
    locale, country = _LOCALES[language]
    number = random.randrange(10_000, 100_000)  # noqa: S311  # no secret
    return NewOrder.model_validate(
        {
            "reference": f"SAMPLE-{number}",
            "customer": {
                "id": f"sample-{number % 7}",
                "name": "Sam Sample",
                "email": f"sample-{number % 7}@example.com",
                "locale": locale,
                "country": country,
            },
            "currency": "GBP",
            "lines": [_line(level) for level in random.sample(levels, min(_MOST_LINES, len(levels)))],
        }
    )


def _line(level: dict[str, Any]) -> dict[str, Any]:
    most = _MOST_UNITS if level["available"] is None else min(_MOST_UNITS, level["available"])
    return {
        "sku": level["_id"],
        "description": "Sample article",
        "quantity": random.randint(1, most),  # noqa: S311  # no secret
        "unit_price": random.choice(_PRICES),  # noqa: S311  # no secret
    }
