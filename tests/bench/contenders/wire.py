"""What RabbitMQ and aio-pika carry at most: `bare`, with bytes in the place of events."""

from tests.bench.contenders.bare import Bare

CONTENDER = Bare("wire")
