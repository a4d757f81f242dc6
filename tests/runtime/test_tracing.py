"""Trace context goes with requests where it is asked for."""

from __future__ import annotations

import logging
import sys

import pytest
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, use_span
from opentelemetry.trace.span import TraceState

from tinker_actors import Config
from tinker_actors.ports import Request, Response, Transport
from tinker_actors.runtime.tracing import traced

SPAN = NonRecordingSpan(
    SpanContext(0xAB, 0xCD, is_remote=False, trace_flags=TraceFlags(1), trace_state=TraceState([("team", "a")]))
)
PARENT = "00-000000000000000000000000000000ab-00000000000000cd-01"


class Recording(Transport):
    def __init__(self) -> None:
        self.asked: list[Request] = []
        self.closed = False

    async def send(self, request: Request) -> Response:
        self.asked.append(request)
        raise NotImplementedError

    async def aclose(self) -> None:
        self.closed = True


def config(*, on: bool) -> Config:
    return Config.load(base_url="https://server", api_key="tml-test", environ={}, otel_propagate=on)


async def test_requests_carry_the_span_of_their_task():
    inner = Recording()
    carrier = traced(inner, config(on=True))
    with use_span(SPAN), pytest.raises(NotImplementedError):
        await carrier.send(Request(method="GET", url="https://server/", headers=(("accept", "a"),)))
    with pytest.raises(NotImplementedError):
        await carrier.send(Request(method="GET", url="https://server/"))
    with_span, without = (dict(request.headers) for request in inner.asked)
    assert with_span == {"accept": "a", "traceparent": PARENT, "tracestate": "team=a"}
    assert without == {}
    await carrier.aclose()
    assert inner.closed


async def test_a_requests_own_trace_counts():
    inner = Recording()
    own = (("traceparent", "mine"),)
    with use_span(SPAN), pytest.raises(NotImplementedError):
        await traced(inner, config(on=True)).send(Request(method="GET", url="https://server/", headers=own))
    assert dict(inner.asked[0].headers)["traceparent"] == "mine"


def test_it_is_off_unless_the_configuration_says_so():
    inner = Recording()
    assert traced(inner, config(on=False)) is inner
    assert traced(inner, Config.load(api_key="tml-test", environ={})) is inner


def test_without_the_library_requests_are_as_they_were_and_a_warning_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setitem(sys.modules, "opentelemetry.propagate", None)
    inner = Recording()
    with caplog.at_level(logging.WARNING, "tinker_actors"):
        assert traced(inner, config(on=True)) is inner
    assert "no trace context is sent" in caplog.text
