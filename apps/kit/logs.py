"""Structured logs on standard output: JSON for machines, plain lines for a terminal."""

import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

import orjson
import structlog
from opentelemetry import trace
from opentelemetry.trace import format_span_id, format_trace_id
from structlog.typing import EventDict, WrappedLogger

from apps.kit.settings import LogLevel, get_settings

_is_configured = False
_fields: ContextVar[Callable[[], Mapping[str, str]] | None] = ContextVar("fields", default=None)


@contextmanager
def logged_with(fields: Callable[[], Mapping[str, str]]) -> Iterator[None]:
    """Add fields to every line that is written inside; they are worked out only if one is."""
    token = _fields.set(fields)
    try:
        yield
    finally:
        _fields.reset(token)


def hold_back_uvicorn() -> None:
    """Drop the plain lines that uvicorn would write before an app has set up its log."""
    logging.getLogger("uvicorn.error").addFilter(
        lambda record: _is_configured or record.levelno > logging.INFO
    )


def configure_logging(app: str) -> None:
    """Send everything that this process logs, libraries included, through one renderer."""
    global _is_configured  # noqa: PLW0603  # the log is the process's, not an object's
    _is_configured = True
    settings = get_settings()
    level = _number(settings.log_level)
    levels = {name: _number(given) for name, given in settings.log_levels.items()}
    is_terminal = sys.stdout.isatty()
    log_format = settings.log_format
    if log_format == "auto":
        log_format = "console" if is_terminal else "json"
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        _with_fields,
        _in_trace,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if log_format == "json":
        shared.append(structlog.processors.format_exc_info)
        renderer: structlog.typing.Processor = structlog.processors.JSONRenderer(
            serializer=lambda entry, **_: orjson.dumps({"app": app, **entry}, default=str).decode()
        )
    else:
        renderer = structlog.dev.ConsoleRenderer(
            colors=is_terminal,
            pad_event_to=0,
            # The default prints local variables too, and with them a customer's data.
            exception_formatter=structlog.dev.plain_traceback,
        )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        # It drops early what no logger wants; what only some want, they tell themselves.
        wrapper_class=structlog.make_filtering_bound_logger(min([level, *levels.values()])),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    logging.basicConfig(handlers=[handler], level=level, force=True)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True
    # Probes every few seconds, and drivers that log each reconnect, would drown what matters; and at `debug`
    # drivers quote what they send and receive, a customer's data included.
    quiet = ("uvicorn.access", "aiormq", "aio_pika", "pymongo", "httpx", "httpcore")
    defaults = {name: max(level, logging.WARNING) for name in quiet}
    # It warns of headers that it cannot read, in their own words.
    defaults["opentelemetry.trace"] = max(level, logging.ERROR)
    for name, given in (defaults | levels).items():
        logging.getLogger(name).setLevel(given)


def _number(level: LogLevel) -> int:
    return logging.getLevelNamesMapping()[level.upper()]


def _with_fields(_logger: WrappedLogger, _method: str, entry: EventDict) -> EventDict:
    """Add what `logged_with` promised; what the line says itself wins."""
    fields = _fields.get()
    return entry if fields is None else {**fields(), **entry}


def _in_trace(_logger: WrappedLogger, _method: str, entry: EventDict) -> EventDict:
    """Name the trace that a line belongs to, also one that is only handed on; and the span, if it is ours."""
    span = trace.get_current_span()
    place = span.get_span_context()
    if place.is_valid:
        entry["trace_id"] = format_trace_id(place.trace_id)
        if span.is_recording():
            entry["span_id"] = format_span_id(place.span_id)
    return entry
