"""Record one message of each topic as it passes through a running system, for those topics that lack one.

Run it beside `orderflow up` while orders pass; it ends when every topic has its message, or on Ctrl-C:
`uv run --env-file .orderflow/env python -m tests.unit.record_messages`
"""

import asyncio
import json
import os
from importlib.metadata import version
from pathlib import Path

import aio_pika
from aio_pika.abc import AbstractIncomingMessage

from contracts import EVENTS

MESSAGES = Path(__file__).with_name("messages")
PROPERTIES = (
    "app_id",
    "content_encoding",
    "content_type",
    "correlation_id",
    "delivery_mode",
    "message_id",
    "timestamp",
    "type",
)


def recording_of(message: AbstractIncomingMessage) -> str:
    """The message as a file."""
    properties = {name: getattr(message, name) for name in PROPERTIES}
    recording = {
        "routing_key": message.routing_key,
        "properties": {name: value for name, value in properties.items() if value is not None},
        "headers": message.headers,
        "body": message.body.decode(),
    }
    return json.dumps(recording, indent=2, ensure_ascii=False, default=str) + "\n"


async def record(rabbitmq_url: str, directory: Path = MESSAGES) -> None:
    """Write `<topic>/<release>.json` for each topic, until all are there."""
    files = {event.topic: directory / event.topic / f"{version('orderflow')}.json" for event in EVENTS}
    async with await aio_pika.connect(rabbitmq_url) as connection:
        channel = await connection.channel()
        tap = await channel.declare_queue(exclusive=True)
        await tap.bind("events", "#")
        async with tap.iterator(no_ack=True) as passing:
            async for message in passing:
                file = files.get(message.routing_key or "")
                # Only what our own apps have sealed: a test's bare message says nothing of the envelope.
                if file and not file.exists() and message.type:
                    file.parent.mkdir(parents=True, exist_ok=True)
                    file.write_text(recording_of(message))
                if all(file.exists() for file in files.values()):
                    return


if __name__ == "__main__":
    asyncio.run(record(os.environ["ORDERFLOW_RABBITMQ_URL"]))
