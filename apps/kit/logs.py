"""Structured logs on standard output: JSON for machines, plain lines for a terminal."""

import logging
import sys

import orjson
import structlog

from apps.kit.settings import get_settings

_is_configured = False


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
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if settings.log_format == "json":
        shared.append(structlog.processors.format_exc_info)
        renderer: structlog.typing.Processor = structlog.processors.JSONRenderer(
            serializer=lambda entry, **_: orjson.dumps({"app": app, **entry}, default=str).decode()
        )
    else:
        renderer = structlog.dev.ConsoleRenderer(
            colors=False,
            pad_event_to=0,
            # The default prints local variables too, and with them a customer's data.
            exception_formatter=structlog.dev.plain_traceback,
        )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(level),
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
    # Probes every few seconds, and drivers that log each reconnect, would drown what matters.
    for name in ("uvicorn.access", "aiormq", "aio_pika", "pymongo", "motor", "httpx"):
        logging.getLogger(name).setLevel(max(level, logging.WARNING))
