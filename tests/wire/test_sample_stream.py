"""Streamed samples, however their bytes are cut."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tinker_actors.errors import APIConnectionError
from tinker_actors.types import SampleStreamChunk
from tinker_actors.wire.sample_stream import SampleStream
from tinker_actors.wire.sse import ServerSentEvent, SSEDecoder


class Events(AsyncIterator[ServerSentEvent]):
    """The events of ``pieces``."""

    def __init__(self, *pieces: bytes) -> None:
        decoder = SSEDecoder()
        self._events = [event for piece in pieces for event in decoder.feed(piece)]

    async def __anext__(self) -> ServerSentEvent:
        if not self._events:
            raise StopAsyncIteration
        return self._events.pop(0)


async def chunks(*pieces: bytes) -> list[SampleStreamChunk]:
    return [chunk async for chunk in SampleStream(Events(*pieces), "POST /stream_sample")]


TWO = b'data: {"token":"a","token_id":1,"logprob":-0.5,"index":0}\n\n: awake\n\ndata: {"finish_reason":"length"}\n\n'


@pytest.mark.parametrize("size", [1, 7, len(TWO)])
async def test_chunks_are_whole_however_they_arrive(size: int):
    pieces = [TWO[start : start + size] for start in range(0, len(TWO), size)]
    first, last = await chunks(*pieces)
    assert first == SampleStreamChunk(token="a", token_id=1, logprob=-0.5, index=0)
    assert (last.finish_reason, last.done) == ("length", True)


@pytest.mark.parametrize("marker", [b"[DONE]", b'"[DONE]"', b" [DONE] "])
async def test_the_mark_of_the_end_may_be_bare_or_json(marker: bytes):
    (only,) = await chunks(b"data: " + marker + b"\n\n", b"data: never read\n\n")
    assert only == SampleStreamChunk(finish_reason="stop")


async def test_a_stream_may_be_left_after_its_first_chunk():
    stream = SampleStream(Events(TWO), "POST /stream_sample")
    assert (await anext(stream)).token == "a"
    assert (await anext(stream)).done
    with pytest.raises(StopAsyncIteration):
        await anext(stream)


@pytest.mark.parametrize(
    "awake", [b"data:\n\n", b"data\n\n", b"data: \ndata:\n\n", b"event: ping\ndata:\n\n", b"event: x\n\n"]
)
async def test_an_event_without_data_says_nothing(awake: bytes):
    first, last = await chunks(awake, b'data: {"token":"a"}\n\n', awake, awake, b'data: {"finish_reason":"stop"}\n\n')
    assert first == SampleStreamChunk(token="a")
    assert last == SampleStreamChunk(finish_reason="stop")
    with pytest.raises(APIConnectionError, match="ended before the sample did"):
        await chunks(b'data: {"token":"a"}\n\n', awake)


async def test_a_named_end_needs_no_data():
    (done,) = await chunks(b"event: done\ndata:\n\n", b"data: never read\n\n")
    assert done == SampleStreamChunk(finish_reason="stop")
    (failed,) = await chunks(b"event: error\ndata\n\n", b"data: never read\n\n")
    assert failed == SampleStreamChunk(error="the server gives no reason")


async def test_a_stream_without_an_end_is_an_error_of_the_connection():
    with pytest.raises(APIConnectionError, match="ended before the sample did"):
        await chunks(b'data: {"token":"a"}\n\n')


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (b"data:\n\n", ServerSentEvent(data="")),
        (b"data\n\n", ServerSentEvent(data="")),
        (b"colour: red\nretry: soon\ndata: x\n\n", ServerSentEvent(data="x")),
    ],
)
def test_odd_fields_of_an_event(lines: bytes, expected: ServerSentEvent):
    assert SSEDecoder().feed(lines) == [expected]
