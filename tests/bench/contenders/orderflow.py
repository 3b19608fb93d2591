"""Orderflow as shipped: `faststream run` for each worker, every setting at its default.

That includes what the others lack: metrics, the recovery policy, readiness. The orders' customers have a
phone number only, so that the development texter, which sends nothing, is the null sender; the line that it
logs for each text is off, since the others' null senders are silent too. Webhooks, PDF and the archive of
dead letters are no part of the job that is compared.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import aio_pika
from pymongo import AsyncMongoClient

from apps.orders.domain import Status
from contracts import OrderCreated
from contracts.envelope import envelope
from tests.bench.contender import EVENTS, Books, Entry, Place, shown
from tests.bench.processes import ROOT, python

APPS = ("orders", "stock", "billing", "notifications")


class Orderflow:
    """Four processes, or any number of each; `root` is a checkout, of this commit or of another."""

    name = "orderflow"
    keeps_books = True

    def __init__(self, replicas: int = 1, root: Path = ROOT) -> None:
        self._replicas = replicas
        self._root = root

    def commands(self, place: Place) -> Mapping[str, Sequence[str]]:
        settings = (
            f"ORDERFLOW_RABBITMQ_URL={place.rabbitmq_url}",
            f"ORDERFLOW_MONGODB_URL={place.mongodb_url}",
            f"ORDERFLOW_DATABASE_PREFIX={place.database}",
            'ORDERFLOW_LOG_LEVELS={"apps.notifications.sms":"warning"}',
        )
        listen = ("--host", "127.0.0.1", "--port", "0")
        return {
            app if number == 1 else f"{app}-{number}": [
                *("env", f"--chdir={self._root}", *settings),
                *python("-m", "faststream", "run", f"apps.{app}.app:app", *listen),
            ]
            for number in range(1, self._replicas + 1)
            for app in APPS
        }

    def queues(self, place: Place) -> Sequence[str]:  # noqa: ARG002
        return [
            *("stock.order-created", "billing.order-validated", "notifications.invoice-issued"),
            *("orders.order-created", "orders.order-validated"),
            *("orders.invoice-issued", "orders.notification-sent"),
        ]

    async def prepare(self, place: Place, stock: Mapping[str, int]) -> None:
        async with AsyncMongoClient[dict[str, Any]](place.mongodb_url) as client:
            await client[f"{place.database}_stock"]["levels"].insert_many(
                [
                    {"_id": sku, "available": units, "reserved": 0, "owed": 0, "counted_at": None}
                    for sku, units in stock.items()
                ]
            )

    def entry(self, order: OrderCreated) -> Entry:
        return Entry(EVENTS, order.topic, aio_pika.Message(**envelope(order)))

    async def books(self, place: Place) -> Books:
        async with AsyncMongoClient[dict[str, Any]](place.mongodb_url) as client:

            def collection(app: str, name: str) -> Any:
                return client[f"{place.database}_{app}"][name]

            invoices = collection("billing", "invoices").find({}, {"number": 1})
            levels = collection("stock", "levels").find({}, {"reserved": 1})
            return Books(
                invoice_numbers=[int(one["number"].rpartition("-")[2]) async for one in invoices],
                units_reserved=sum([one["reserved"] async for one in levels]),
                notifications=await collection("notifications", "notifications").count_documents({}),
                notified=await collection("orders", "orders").count_documents(
                    shown({"rank": Status.NOTIFIED.rank})
                ),
            )


CONTENDER = Orderflow()
