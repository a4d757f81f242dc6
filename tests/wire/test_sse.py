"""Server-sent events, by the rules of the HTML standard, however the bytes are cut."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinker_actors.errors import DecodeError
from tinker_actors.wire.sse import ServerSentEvent, SSEDecoder

Event = ServerSentEvent


def decoded(*pieces: bytes) -> list[Event]:
    decoder = SSEDecoder()
    return [event for piece in pieces for event in decoder.feed(piece)]


@pytest.mark.parametrize(
    ("stream", "events"),
    [
        (b"data: a\n\n", [Event(data="a")]),
        (b"data:a\r\n\r\n", [Event(data="a")]),
        (b"data:a\r\r", [Event(data="a")]),
        (b"data:a\n\rdata:b\r\n\n", [Event(data="a"), Event(data="b")]),
        (b"data:  two blanks\n\n", [Event(data=" two blanks")]),
        (b"data: a\ndata: b\ndata\n\n", [Event(data="a\nb\n")]),
        (b"data: a\r\ndata: b\r\n\r\n", [Event(data="a\nb")]),
        (b"event: token\ndata: {}\nretry: 250\nid: 7\n\n", [Event(data="{}", event="token", id="7", retry=250)]),
        (b"id: 7\ndata: a\n\ndata: b\n\n", [Event(data="a", id="7"), Event(data="b", id="7")]),
        (b"id: 7\ndata: a\n\nid\ndata: b\n\n", [Event(data="a", id="7"), Event(data="b")]),
        (b"id: a\0b\ndata: x\n\n", [Event(data="x")]),
        (b"retry: soon\ndata: x\n\n", [Event(data="x")]),
        (b"retry: 1\nevent: a\n\ndata: x\n\n", [Event(data="x")]),
        (b": a comment\n\n: another\n\n", []),
        (b"unknown: x\nData: y\n\n", []),
        (b"\xef\xbb\xbfdata: bom\n\n", [Event(data="bom")]),
        ("data: \u00e9\U0001f600\u2028\n\n".encode(), [Event(data="\u00e9\U0001f600\u2028")]),
        (b"data: \xff\n\n", [Event(data="\ufffd")]),
        (b"data: cut", []),
        (b"data: cut\n", []),
        (b"", []),
    ],
)
def test_what_a_stream_means(stream: bytes, events: list[Event]):
    assert decoded(stream) == events
    assert decoded(*(bytes([byte]) for byte in stream)) == events


LINES = st.sampled_from(
    [
        b"data: a",
        b"data:",
        b"data",
        b"event: token",
        b"id: 1",
        b"id",
        b"retry: 5",
        b": c",
        b"x: y",
        b"",
        b"",
        "data: é€😀".encode(),
    ]
)
ENDS = st.sampled_from([b"\n", b"\r\n", b"\r"])
STREAMS = st.one_of(
    st.lists(st.tuples(LINES, ENDS), max_size=12).map(lambda parts: b"".join(line + end for line, end in parts)),
    st.text(st.sampled_from("dat: \r\n\ufeffé"), max_size=40).map(str.encode),
    st.binary(max_size=60),
)


@settings(deadline=None)
@given(STREAMS, st.data())
def test_any_cut_gives_the_same_events(stream: bytes, data: st.DataObject):
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=10)))
    pieces = [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert b"".join(pieces) == stream
    assert decoded(*pieces) == decoded(stream)


def test_an_event_that_did_not_end_is_seen():
    decoder = SSEDecoder()
    assert not decoder.pending
    decoder.feed(b"id: 4\ndata: a\n")
    assert decoder.pending
    assert decoder.feed(b"\n") == [Event(data="a", id="4")]
    assert not decoder.pending
    assert decoder.last_event_id == "4"


@pytest.mark.parametrize("piece", [b"a" * 100, b"data: a\n" * 20, b"data:" + b"a" * 50])
def test_an_event_without_end_is_bounded(piece: bytes):
    decoder = SSEDecoder(limit=1000)
    with pytest.raises(DecodeError, match="more than 1000"):
        for _ in range(50):
            decoder.feed(piece)


def test_comments_that_keep_a_stream_awake_cost_nothing():
    decoder = SSEDecoder(limit=1000)
    tracemalloc.start()
    for _ in range(5000):
        assert decoder.feed(b": still here\n") == []
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size < 50_000
    assert decoder.feed(b"data: a\n\n") == [Event(data="a")]


def test_the_data_of_an_event_as_json():
    assert Event(data='{"token": "a"}').json() == {"token": "a"}
    for text in ("", "{", "NaN", "[" * 100_000):
        with pytest.raises(DecodeError):
            Event(data=text).json()
