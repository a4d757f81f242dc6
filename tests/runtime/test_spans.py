"""A span for each operation, with its phases and the decoding of its result, and requests within them."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import trio
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, StatusCode, TraceFlags, use_span

from supervision.testing import run_seeded
from tests.wire.scripted import Answer, Script
from tinker_actors.clients import ServiceClient
from tinker_actors.config import Config
from tinker_actors.errors import BadRequestError, InvalidInput, OperationCancelled
from tinker_actors.local.service import open_service
from tinker_actors.local.settings import ServerSettings
from tinker_actors.ports import FixedCredentials, InlineOffload, Request, Response, Transport
from tinker_actors.runtime import open_runtime
from tinker_actors.runtime.tracing import traced
from tinker_actors.testing.faults import CrashAt, DropBefore, FaultPlan, FaultyTransport, PlannedPoints, Status
from tinker_actors.testing.network import open_network
from tinker_actors.testing.operations import BASE_MODEL, PROMPT, datum, start_client
from tinker_actors.types import AdamParams, SamplingParams
from tinker_actors.wire.api import Api
from tinker_actors.wire.endpoints.service import get_server_capabilities

TRACE = 0xAB


class Recorded(trace.Span):
    """A span that remembers."""

    def __init__(self, tracer: Tracer, name: str, parent: int, attributes: Any) -> None:
        self.tracer = tracer
        self.name = name
        self.parent = parent
        self.attributes = dict(attributes or {})
        self.began = trio.current_time()
        self.ended: float | None = None
        self.status: StatusCode | None = None
        self.errors: list[BaseException] = []
        self.number = len(tracer.spans) + 1
        tracer.spans.append(self)

    def get_span_context(self) -> SpanContext:
        return SpanContext(TRACE, self.number, is_remote=False, trace_flags=TraceFlags(1))

    def end(self, end_time: int | None = None) -> None:
        assert self.ended is None, f"{self.name} ended twice"
        self.ended = trio.current_time()

    def record_exception(self, exception: BaseException, *_: Any, **__: Any) -> None:
        self.errors.append(exception)

    def set_status(self, status: Any, description: str | None = None) -> None:
        self.status = status.status_code

    def is_recording(self) -> bool:
        return self.ended is None

    def set_attributes(self, attributes: Any) -> None: ...
    def set_attribute(self, key: str, value: Any) -> None: ...
    def add_event(self, name: str, attributes: Any = None, timestamp: int | None = None) -> None: ...
    def update_name(self, name: str) -> None: ...


class Tracer(trace.Tracer):
    def __init__(self) -> None:
        self.spans: list[Recorded] = []

    def start_span(self, name: str, context: Any = None, *_: Any, attributes: Any = None, **__: Any) -> Recorded:
        parent = trace.get_current_span(context).get_span_context().span_id
        return Recorded(self, name, parent, attributes)

    @contextmanager
    def start_as_current_span(self, *_: Any, **__: Any) -> Iterator[Recorded]:
        raise NotImplementedError
        yield

    def tree(self, parent: int = 0) -> list[Any]:
        """Names, each with those of its children if it has any."""
        out: list[Any] = []
        for span in self.spans:
            if span.parent == parent:
                inner = self.tree(span.number)
                out.append((span.name, inner) if inner else span.name)
        return out

    def named(self, name: str) -> list[Recorded]:
        return [span for span in self.spans if span.name == name]


class Seen(Transport):
    """Remembers of each request the span that it belongs to."""

    def __init__(self, inner: Transport) -> None:
        self._inner = inner
        self.parents: list[tuple[str, str | None]] = []

    async def send(self, request: Request) -> Response:
        found = dict(request.headers).get("traceparent")
        self.parents.append((request.url.rpartition("/")[2], found))
        return await self._inner.send(request)

    async def aclose(self) -> None:
        await self._inner.aclose()


def play(
    story: Callable[[ServiceClient], Awaitable[Any]], *faults: Any, tracer: Any = None, propagate: bool = False
) -> tuple[Any, Seen]:
    async def run() -> tuple[Any, Seen]:
        plan = FaultPlan(faults)
        async with (
            open_service(
                ServerSettings(base_model=BASE_MODEL, fwdbwd_max_chunk_len=2),
                offload=InlineOffload(),
                random=random.Random(1),
            ) as service,
            open_network(service.app, random=random.Random(2)) as network,
        ):
            seen = Seen(FaultyTransport(network.transport(), plan))
            config = Config.load(base_url="https://s", api_key="tml-test", environ={}, otel_propagate=propagate)
            async with open_runtime(
                config=config,
                transport=seen,
                seed=4,
                offload=InlineOffload(),
                points=PlannedPoints(plan),
                tracer=tracer,
            ) as runtime:
                value = await story(await runtime.create_service_client())
        return value, seen

    return run_seeded(run, seed=1, limit=10_000.0)


async def one_step(service: ServiceClient) -> None:
    client = await start_client(service)
    await (await client.optim_step(AdamParams()))


async def one_sample(service: ServiceClient) -> None:
    client = await service.create_sampling_client(base_model=BASE_MODEL)
    await client.sample(PROMPT, 1, SamplingParams(max_tokens=1))


PHASES = ["queue", "send", "poll", "decode"]


@pytest.mark.parametrize(("story", "name"), [(one_step, "tinker.optim_step"), (one_sample, "tinker.sample")])
def test_an_operation_is_a_span_and_its_phases_follow_one_another_below(story: Any, name: str):
    tracer = Tracer()
    play(story, tracer=tracer)
    assert tracer.tree() == [(name, PHASES)]
    whole, queue, send, poll, decode = tracer.spans
    assert whole.began == queue.began
    assert queue.ended == send.began
    assert send.ended == poll.began
    assert poll.ended == whole.ended
    assert poll.began <= decode.began <= decode.ended <= poll.ended
    assert send.ended - send.began > 0.001
    assert {span.status for span in tracer.spans} == {None}


def test_its_attributes_say_which_operation_it_is():
    tracer = Tracer()
    play(one_step, tracer=tracer)
    attributes = tracer.spans[0].attributes
    assert attributes["tinker.operation"] == "session-0/training-0#1"
    assert attributes["tinker.model_id"].startswith("sess-")


def test_chunks_are_decoded_one_by_one():
    async def story(service: ServiceClient) -> None:
        client = await start_client(service)
        await (await client.forward_backward([datum(seed) for seed in range(5)]))

    tracer = Tracer()
    play(story, tracer=tracer)
    assert tracer.tree() == [("tinker.forward_backward", ["queue", "send", "poll", *["decode"] * 3])]


@pytest.mark.parametrize("story", [one_step, one_sample])
def test_it_lies_below_the_span_of_its_caller_and_its_requests_in_its_phases(story: Any):
    outer = NonRecordingSpan(SpanContext(TRACE, 0xCD, is_remote=False, trace_flags=TraceFlags(1)))

    async def within(service: ServiceClient) -> None:
        with use_span(outer):
            await story(service)

    tracer = Tracer()
    _, seen = play(within, tracer=tracer, propagate=True)
    assert [span.parent for span in tracer.spans if span.name.startswith("tinker.")] == [0xCD]
    parents = dict(seen.parents)
    header = "00-000000000000000000000000000000ab-{:016x}-01"
    sent = "optim_step" if story is one_step else "asample"
    assert parents[sent] == header.format(tracer.named("send")[0].number)
    assert parents["retrieve_future"] == header.format(tracer.named("poll")[0].number)


def test_spans_need_no_headers_and_headers_no_tracer_of_one_s_own():
    tracer = Tracer()
    _, seen = play(one_step, tracer=tracer)
    assert tracer.spans
    assert {found for _, found in seen.parents} == {None}
    play(one_step, propagate=True)  # the global tracer makes none


@pytest.mark.parametrize("point", ["training.before_send", "training.sent", "training.polling"])
def test_a_crash_begins_phases_anew_within_the_same_span(point: str):
    tracer = Tracer()
    play(one_step, CrashAt(point=point), tracer=tracer)
    ((name, phases),) = tracer.tree()
    assert name == "tinker.optim_step"
    assert phases == (["queue", "send", "send", "poll", "decode"] if point == "training.sent" else PHASES)
    assert all(span.ended is not None for span in tracer.spans)


def test_a_failed_operation_ends_with_its_error():
    async def story(service: ServiceClient) -> None:
        client = await start_client(service)
        future = await client.optim_step(AdamParams())
        with pytest.raises(BadRequestError):
            await future
        sampler = await service.create_sampling_client(base_model=BASE_MODEL)
        with pytest.raises(BadRequestError):
            await sampler.sample(PROMPT, 1, SamplingParams(max_tokens=1))

    tracer = Tracer()
    play(story, Status(path="/optim_step", status=400), Status(path="/asample", status=400), tracer=tracer)
    wholes = [span for span in tracer.spans if span.name.startswith("tinker.")]
    assert [span.status for span in wholes] == [StatusCode.ERROR] * 2
    assert [type(span.errors[0]) for span in wholes] == [BadRequestError] * 2
    assert all(span.ended is not None for span in tracer.spans)


def test_what_is_cancelled_or_closed_ends_its_span():
    async def story(service: ServiceClient) -> None:
        client = await start_client(service)
        first = await client.optim_step(AdamParams())
        second = await client.optim_step(AdamParams())
        assert second.cancel()
        with pytest.raises(OperationCancelled):
            await second
        await client.aclose()
        with trio.move_on_after(5), pytest.raises(Exception):  # noqa: B017  # whichever it is
            await first
        sampler = await service.create_sampling_client(base_model=BASE_MODEL)
        with trio.move_on_after(0.001):
            await sampler.sample(PROMPT, 1, SamplingParams(max_tokens=1))

    tracer = Tracer()
    play(story, DropBefore(path="/optim_step", times=50), tracer=tracer)
    assert all(span.ended is not None for span in tracer.spans)
    assert [span.name for span in tracer.spans if span.name.startswith("tinker.")] == [
        "tinker.optim_step",
        "tinker.optim_step",
        "tinker.sample",
    ]


@pytest.mark.parametrize("what", ["start_span", "end", "get_span_context", "set_status", "record_exception"])
def test_a_tracer_that_fails_harms_no_operation(what: str, caplog: pytest.LogCaptureFixture):
    def fails(*_: Any, **__: Any) -> Any:
        raise RuntimeError("broken tracer")

    class Broken(Tracer):
        def start_span(self, *args: Any, **options: Any) -> Recorded:
            if what == "start_span":
                fails()
            span = super().start_span(*args, **options)
            setattr(span, what, fails)
            return span

    async def story(service: ServiceClient) -> None:
        client = await start_client(service)
        await (await client.forward_backward([datum(1)]))
        refused = await client.optim_step(AdamParams())
        with pytest.raises(BadRequestError):
            await refused
        await (await client.optim_step(AdamParams()))
        await one_sample(service)

    play(story, Status(path="/optim_step", status=400), tracer=Broken(), propagate=True)
    if what != "get_span_context":
        assert caplog.text.count("the tracer has failed") == 1


@pytest.mark.parametrize("tracer", [object(), "tracer", 7])
async def test_what_is_no_tracer(tracer: Any):
    with pytest.raises(InvalidInput, match="tracer"):
        async with open_runtime(base_url="https://s", api_key="tml-test", tracer=tracer):
            pass


class Recording(Transport):
    def __init__(self) -> None:
        self.asked: list[Request] = []

    async def send(self, request: Request) -> Response:
        self.asked.append(request)
        raise NotImplementedError

    async def aclose(self) -> None: ...


@pytest.mark.parametrize(
    ("url", "carried"),
    [
        ("https://server/api/v1/x", True),
        ("https://server:443/y", True),
        ("https://other/api/v1/x", False),
        ("https://server:8443/api/v1/x", False),
        ("http://server/api/v1/x", False),
        ("https://server.evil/api/v1/x", False),
    ],
)
async def test_trace_context_goes_to_the_server_and_to_nobody_else(url: str, carried: bool):
    inner = Recording()
    config = Config.load(base_url="https://server/", api_key="tml-test", environ={}, otel_propagate=True)
    span = NonRecordingSpan(SpanContext(TRACE, 1, is_remote=False, trace_flags=TraceFlags(1)))
    with use_span(span), pytest.raises(NotImplementedError):
        await traced(inner, config).send(Request(method="GET", url=url))
    assert ("traceparent" in dict(inner.asked[0].headers)) is carried


async def test_a_propagator_that_fails_fails_no_request(monkeypatch: pytest.MonkeyPatch, caplog: Any):
    def fails(carrier: dict[str, str]) -> None:
        carrier["half"] = "done"
        raise RuntimeError

    monkeypatch.setattr("opentelemetry.propagate.inject", fails)
    inner = Recording()
    config = Config.load(base_url="https://server", api_key="tml-test", environ={}, otel_propagate=True)
    with pytest.raises(NotImplementedError):
        await traced(inner, config).send(Request(method="GET", url="https://server/x"))
    assert "no trace context" in caplog.text


@pytest.mark.parametrize(("location", "carried"), [("https://other/moved", False), ("/moved", True)])
async def test_a_redirect_to_another_host_gets_no_trace_context(
    location: str, carried: bool, autojump_clock: trio.abc.Clock
):
    script = Script(Answer({}, 307, {"location": location}), Answer({"supported_models": []}))
    config = Config.load(base_url="https://server", api_key="tml-test", environ={}, otel_propagate=True)
    span = NonRecordingSpan(SpanContext(TRACE, 1, is_remote=False, trace_flags=TraceFlags(1)))
    async with open_network(script, random=random.Random(0)) as network:
        api = Api(traced(network.transport(), config), config, FixedCredentials("tml-test"))
        with use_span(span):
            await get_server_capabilities(api)
    first, second = script.asked
    assert "traceparent" in first.headers
    assert second.path == "/moved"
    assert ("traceparent" in second.headers) is carried
