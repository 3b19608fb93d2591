"""What callers may be allowed to do; apart from the rest, so that commands need not load FastAPI."""

from enum import StrEnum


class Scope(StrEnum):
    """What a caller may be allowed to do."""

    ORDERS_READ = "orders:read"
    ORDERS_WRITE = "orders:write"
    STOCK_WRITE = "stock:write"
    WEBHOOKS_MANAGE = "webhooks:manage"
    DEAD_LETTERS_MANAGE = "dead-letters:manage"
