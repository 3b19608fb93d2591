"""FastStream's own metrics under bounded names: queues and events of ours, never what a message says."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from faststream.exceptions import NackMessage
from faststream.prometheus.container import MetricsContainer
from faststream.rabbit import RabbitExchange

from apps.kit.metrics import REGISTRY
from apps.kit.topology import EVENTS, TOPICS

_FASTSTREAM = MetricsContainer(REGISTRY, custom_label_names=())


class BrokerMetrics:
    """Counts what one app receives and publishes, under the names that FastStream's dashboards know.

    A handler is named by its queue, and what is published by its event, or else by its exchange. FastStream
    would name both by exchange and routing key: anybody may publish under any key, and a message that comes
    back from a retry level would count for another handler. It would also look up each series each time, and
    that costs more than counting.
    """

    def __init__(self, app: str) -> None:
        self._common = {"app_name": app, "broker": "rabbitmq"}
        self._series: dict[tuple[Any, ...], Any] = {}

    @contextmanager
    def handling(self, queue: str, size: int) -> Iterator[None]:
        """Count a received message of so many bytes, and how its handling ends."""
        names = {"handler": queue}
        self._of(_FASTSTREAM.received_messages_total, **names).inc()
        self._of(_FASTSTREAM.received_messages_size_bytes, **names).observe(size)
        in_process = self._of(_FASTSTREAM.received_messages_in_process, **names)
        in_process.inc()
        began = time.perf_counter()
        status = "acked"
        try:
            yield
        except NackMessage:
            status = "nacked"
            raise
        except Exception as error:
            status = "error"
            kind = type(error).__name__
            exceptions = _FASTSTREAM.received_processed_messages_exceptions_total
            self._of(exceptions, **names, exception_type=kind).inc()
            raise
        finally:
            duration = time.perf_counter() - began
            self._of(_FASTSTREAM.received_processed_messages_duration_seconds, **names).observe(duration)
            in_process.dec()
            self._of(_FASTSTREAM.received_processed_messages_total, **names, status=status).inc()

    @contextmanager
    def publishing(self, exchange: RabbitExchange, routing_key: str) -> Iterator[None]:
        """Count an attempt to publish, and how it ends."""
        names = {"destination": destination(exchange, routing_key)}
        began = time.perf_counter()
        status = "success"
        try:
            yield
        except Exception as error:
            status = "error"
            kind = type(error).__name__
            self._of(_FASTSTREAM.published_messages_exceptions_total, **names, exception_type=kind).inc()
            raise
        finally:
            duration = time.perf_counter() - began
            self._of(_FASTSTREAM.published_messages_duration_seconds, **names).observe(duration)
            self._of(_FASTSTREAM.published_messages_total, **names, status=status).inc()

    def _of(self, metric: Any, **names: str) -> Any:
        """The series of a metric, looked up once."""
        key = (metric, *names.values())
        if (series := self._series.get(key)) is None:
            series = self._series[key] = metric.labels(**self._common, **names)
        return series


def destination(exchange: RabbitExchange, routing_key: str) -> str:
    """What a published message is counted under."""
    is_event = exchange.name == EVENTS.name and routing_key in TOPICS
    return routing_key if is_event else exchange.name
