"""A system of a test's own beside that of the run, on the virtual host and the databases that it names."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aio_pika
import httpx
from conftest import PREFIX, SETTINGS, System
from pymongo import AsyncMongoClient

from apps.cli.api_client import bearer
from apps.cli.local.rabbitmq import RabbitNode
from apps.cli.local.stack import LocalStack


@dataclass
class OwnSystem(System):
    """As the system of the run, on databases with another prefix."""

    prefix: str = PREFIX

    def database(self, app: str) -> Any:
        return self.mongo[f"{self.prefix}_{app}"]


def management(node: RabbitNode) -> httpx.AsyncClient:
    """The management API as an administrator; it takes its time where queues are many."""
    return httpx.AsyncClient(
        base_url=f"{node.management_url}/api", auth=node.login, timeout=60, trust_env=False
    )


@asynccontextmanager
async def own_vhost(node: RabbitNode, name: str) -> AsyncIterator[str]:
    """The URL of a virtual host that is gone afterwards, with its queues."""
    try:
        yield node.create_vhost(name)
    finally:
        async with management(node) as api:
            (await api.delete(f"/vhosts/{name}")).raise_for_status()


@asynccontextmanager
async def own_system(
    home: Path,
    rabbitmq_url: str,
    mongodb_url: str,
    *,
    environment: Mapping[str, str],
    environment_of: Mapping[str, Mapping[str, str]] = {},
) -> AsyncIterator[OwnSystem]:
    """Every app as a process, ready."""
    settings = {**SETTINGS, **environment}
    stack = LocalStack(
        home,
        environment=settings,
        environment_of=environment_of,
        rabbitmq_url=rabbitmq_url,
        mongodb_url=mongodb_url,
    )
    mongo: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(
        mongodb_url, tz_aware=True, uuidRepresentation="standard", readConcernLevel="majority"
    )
    async with stack, await aio_pika.connect_robust(rabbitmq_url) as connection:
        key = bearer(stack.api_key)
        async with httpx.AsyncClient(base_url=stack.api_url, headers=key, timeout=15) as api:
            channel = await connection.channel(on_return_raises=True)
            yield OwnSystem(stack, api, mongo, channel, settings["ORDERFLOW_DATABASE_PREFIX"])
    await mongo.close()
