"""One trace from an order's request to the last message about it, whatever lies in between.

Spans are recorded only if the environment says where they are to go. Without that the same calls hand on a
trace that began elsewhere, and do nothing more.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from opentelemetry import context, trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

from apps.kit.tracing.export import is_wanted

IS_ON = is_wanted()
"""Whether this process records anything: for those who would do work for a span that is none."""

tracer = trace.get_tracer("orderflow")

_propagator = TraceContextTextMapPropagator()
_HEADERS = ("traceparent", "tracestate")


def carried() -> dict[str, str]:
    """The headers by which whoever gets them goes on with the present trace; none outside of one."""
    headers: dict[str, str] = {}
    _propagator.inject(headers)
    return headers


def context_of(headers: Mapping[str, Any]) -> Context:
    """The trace that headers carry; an empty context if they carry none, or one that cannot be read."""
    texts = {name: value for name in _HEADERS if isinstance(value := headers.get(name), str)}
    return _propagator.extract(texts, Context()) if texts else Context()


@contextmanager
def continued(headers: Mapping[str, Any]) -> Iterator[None]:
    """Go on with the trace that headers carry, and leave the present one; in no trace if they carry none."""
    with within(context_of(headers)):
        yield


@contextmanager
def span(
    name: str,
    kind: SpanKind,
    attributes: Mapping[str, AttributeValue],
    parent: Context | None = None,
    links: Sequence[Link] = (),
) -> Iterator[Span]:
    """Record what happens inside, under the present span unless a parent is given."""
    if not IS_ON:
        yield trace.INVALID_SPAN
        return
    # The text of an exception may quote a customer, so that its type is all that is told of it.
    with tracer.start_as_current_span(
        name, parent, kind, attributes, links, record_exception=False, set_status_on_exception=False
    ) as started:
        try:
            yield started
        except BaseException as error:
            failed(started, type(error).__name__)
            raise


@contextmanager
def shared_span(name: str, members: Sequence[Span]) -> Iterator[None]:
    """Record what is done for several spans at once, in one trace that all of them lead to.

    It lies in the trace of the first member that is sampled. With more than one, it links each of them, and
    each of them links it.
    """
    sampled = [member for member in members if member.get_span_context().trace_flags.sampled]
    first = (sampled or members)[0]
    parent = trace.set_span_in_context(first, Context())
    if not (IS_ON and first.get_span_context().is_valid):
        with within(parent):
            yield
        return
    others = sampled if len(members) > 1 else []
    links = [Link(member.get_span_context()) for member in others]
    attributes = {"orderflow.group.size": len(members)}
    with span(name, SpanKind.INTERNAL, attributes, parent, links) as one:
        for member in others:
            if member.is_recording() and member is not first:
                member.add_link(one.get_span_context())
        yield


@contextmanager
def within(place: Context) -> Iterator[None]:
    """Be in that trace, or in none if it is empty."""
    token = context.attach(place)
    try:
        yield
    finally:
        context.detach(token)


def failed(failing: Span, error_type: str) -> None:
    """Mark a span as failed."""
    failing.set_status(StatusCode.ERROR)
    failing.set_attribute("error.type", error_type)
