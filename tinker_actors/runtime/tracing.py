"""OpenTelemetry: a span for each operation, and trace context with the requests, where they are asked for."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Generator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, TypeVar, final

from msgspec import structs

from tinker_actors.config import Config
from tinker_actors.errors import InvalidInput
from tinker_actors.ports import Request, Response, Transport
from tinker_actors.ports.spans import NO_SPANS, Span, Spans
from tinker_actors.wire.redirects import same_place

__all__ = ["OpenTelemetrySpans", "TracedTransport", "make_spans", "traced"]

T = TypeVar("T")

_log = logging.getLogger("tinker_actors.runtime")

_LIBRARY = "tinker_actors"


@final
class TracedTransport(Transport):
    """A transport whose requests carry what ``inject`` puts into a dict of headers; a request's own headers count.

    Only what goes to the place of ``base_url`` carries it: a redirect to another host does not.
    """

    def __init__(self, inner: Transport, inject: Callable[[dict[str, str]], object], base_url: str) -> None:
        self._inner = inner
        self._inject = inject
        self._base_url = base_url

    async def send(self, request: Request) -> Response:
        """Send ``request`` with the headers of the span that is current in this task."""
        if same_place(self._base_url, request.url):
            found: dict[str, str] = {}
            try:
                self._inject(found)
            except Exception:  # noqa: BLE001  # a propagator of the user's: no request fails for it
                _log.exception("no trace context could be had")
            own = {name for name, _ in request.headers}
            more = [(name.lower(), value) for name, value in found.items() if name.lower() not in own]
            request = structs.replace(request, headers=(*request.headers, *more))
        return await self._inner.send(request)

    async def aclose(self) -> None:
        """Close the transport beneath."""
        await self._inner.aclose()


@final
class OpenTelemetrySpans:
    """Spans that ``tracer`` makes: one for each operation, and below it one for each phase and step.

    A tracer that fails harms no operation: it is told of in the log once, and not asked any more.
    """

    def __init__(self, tracer: Any) -> None:
        self._tracer = tracer
        self._trace: Any = importlib.import_module("opentelemetry.trace")
        self._failed = False

    def begin(self, name: str, attributes: Mapping[str, str]) -> Span:
        """The span ``tinker.NAME``."""
        span = self.guarded(lambda: self._tracer.start_span(f"tinker.{name}", attributes=dict(attributes)))
        return NO_SPANS.begin(name, attributes) if span is None else _OperationSpan(self, span)

    def child(self, parent: Any, name: str) -> Any:
        """For the spans: another one below ``parent``; None when there is none to be had."""
        trace = self._trace
        return self.guarded(lambda: self._tracer.start_span(name, context=trace.set_span_in_context(parent)))

    def use(self, span: Any) -> AbstractContextManager[object]:
        """For the spans: the block in which ``span`` is current. What it raises is no business of ``span``'s."""
        options = {"record_exception": False, "set_status_on_exception": False}
        return self.guarded(lambda: self._trace.use_span(span, **options)) or nullcontext()

    def fail(self, span: Any, error: BaseException) -> None:
        """For the spans: ``span`` ends with ``error``."""
        status = self._trace.Status(self._trace.StatusCode.ERROR, f"{type(error).__name__}: {error}")
        span.record_exception(error)
        span.set_status(status)

    def guarded(self, work: Callable[[], T]) -> T | None:
        """What ``work`` gives; None when it fails, or has failed before."""
        if self._failed:
            return None
        try:
            return work()
        except Exception:  # noqa: BLE001  # whatever a tracer of the user's raises
            self._failed = True
            _log.exception("no more spans are made: the tracer has failed")
            return None


@final
class _OperationSpan:
    """One operation's span and that of its present phase."""

    def __init__(self, spans: OpenTelemetrySpans, span: Any) -> None:
        self._spans = spans
        self._span = span
        self._phase: Any = None
        self._ended = False

    def enter(self, phase: str) -> None:
        """End the phase before and begin another one."""
        if self._ended:
            return
        self._end_phase()
        self._phase = self._spans.child(self._span, phase)

    def current(self) -> AbstractContextManager[object]:
        """The present phase is current within the block."""
        return self._spans.use(self._span if self._phase is None else self._phase)

    def step(self, name: str) -> AbstractContextManager[object]:
        """A child as long as the block."""
        return self._step(name)

    def end(self, error: BaseException | None = None) -> None:
        """End the phase and the whole."""
        if self._ended:
            return
        self._ended = True
        self._end_phase()
        if error is not None:
            self._spans.guarded(lambda: self._spans.fail(self._span, error))
        self._spans.guarded(self._span.end)

    @contextmanager
    def _step(self, name: str) -> Generator[None]:
        child = self._spans.child(self._span, name)
        try:
            yield
        except Exception as error:
            if child is not None:
                failure = error
                self._spans.guarded(lambda: self._spans.fail(child, failure))
            raise
        finally:
            if child is not None:
                self._spans.guarded(child.end)

    def _end_phase(self) -> None:
        if self._phase is not None:
            self._spans.guarded(self._phase.end)
            self._phase = None


def make_spans(config: Config, tracer: Any) -> Spans:
    """Spans of ``tracer``, or of the global one where the configuration asks for trace context; else none.

    Raises InvalidInput for what is no tracer.
    """
    cure = "Give opentelemetry.trace.get_tracer(...), or None"
    if tracer is None and not config.otel_propagate:
        return NO_SPANS
    try:
        trace: Any = importlib.import_module("opentelemetry.trace")
    except ImportError as error:
        if tracer is None:
            return NO_SPANS  # traced() says so
        raise InvalidInput("tracer", "opentelemetry-api is not installed", cure) from error
    if tracer is None:
        tracer = trace.get_tracer(_LIBRARY)
    elif not callable(getattr(tracer, "start_span", None)):
        raise InvalidInput("tracer", f"is of type {type(tracer).__name__}, which starts no spans", cure)
    return OpenTelemetrySpans(tracer)


def traced(transport: Transport, config: Config) -> Transport:
    """``transport``, with trace context where the configuration asks for it and opentelemetry can be imported."""
    if not config.otel_propagate:
        return transport
    try:
        propagate: Any = importlib.import_module("opentelemetry.propagate")
    except ImportError:
        _log.warning("otel_propagate is on, and opentelemetry-api is not installed: no trace context is sent")
        return transport
    return TracedTransport(transport, propagate.inject, config.base_url)
