"""No reply does worse than a typed error, whatever its head, body, errors or events are made of."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.codec.damage import damaged, held_to_its_bounds
from tinker_actors.errors import DecodeError
from tinker_actors.wire.connection import Connection, Malformed
from tinker_actors.wire.link import Link, LinkBroken
from tinker_actors.wire.replies import deprecation, expected_seq_id, reply_detail, request_id_of, retry_after
from tinker_actors.wire.sse import SSEDecoder

MEMORY = 4 << 20
LIMIT = 1 << 16
TRIES = 8
seeds = st.integers(0, 2**32)

STREAM = (
    b': hello\n\nid: 7\nevent: token\nretry: 10\ndata: {"token": "a", "index": 0}\n\n'
    b"data: one\r\ndata: two\r\n\r\ndata: \xf0\x9f\x98\x80\n\n"
)
REPLIES = (
    b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 16\r\n\r\n{"request_id":1}',
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-A: b\r\n\r\n5\r\nhello\r\n3;x=y\r\nabc\r\n0\r\nT: 1\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 429 Too Many\r\nRetry-After: 1.5\r\nContent-Length: 2\r\n\r\n{}",
    b"HTTP/1.1 204 No Content\r\nKeep-Alive: timeout=5\r\nConnection: keep-alive\r\n\r\n",
    b"HTTP/1.0 200 OK\r\n\r\nuntil the end",
)
ERRORS = (
    b'{"detail":[{"loc":["body","seq_id"],"msg":"Sequence conflict: expected 5, got 3","type":"x"}]}',
    b'{"detail":{"expected_seq_id":5,"message":"no"}}',
    b"<html>502</html>",
)


@final
class Fed(Link):
    """A link on which arrives what the test says, and then the end."""

    def __init__(self, pieces: Sequence[bytes]) -> None:
        self._pieces = list(pieces)

    @property
    def wrote(self) -> bool:
        return True

    @property
    def stale(self) -> bool:
        return False

    async def send(self, buffers: Sequence[bytes | memoryview]) -> None:
        """Nobody reads it."""

    async def receive(self, most: int) -> bytes:
        if not self._pieces:
            return b""
        piece = self._pieces.pop(0)
        if len(piece) > most:
            self._pieces.insert(0, piece[most:])
        return piece[:most]

    def close(self) -> None:
        """Nothing to do."""


def pieces_of(body: bytes, seed: int) -> list[bytes]:
    rng = random.Random(seed)
    cuts = sorted({rng.randint(0, len(body)) for _ in range(rng.randrange(6))} - {0, len(body)})
    ends = [*cuts, len(body)]
    return [body[start:end] for start, end in zip([0, *cuts], ends, strict=True) if end > start]


@given(st.sampled_from(REPLIES), seeds)
def test_a_damaged_reply(reply: bytes, seed: int):
    def read(bad: bytes) -> None:
        connection = Connection(Fed(pieces_of(bad, seed)))
        reading = whole_reply(connection)
        with pytest.raises(StopIteration):  # no step of it waits for anything but the link
            reading.send(None)
        connection.recycle()

    for bad in damaged(reply, seed, TRIES):
        held_to_its_bounds(read, bad, memory=MEMORY)


async def whole_reply(connection: Connection) -> None:
    try:
        status, headers = await connection.receive_head()
        assert 200 <= status <= 999
        for value in (retry_after(headers), deprecation(headers), request_id_of(headers)):
            assert value is None or value
        while (piece := connection.take()) is not Connection.END:
            if piece is Connection.NEED_DATA:
                await connection.fill()
            else:
                assert isinstance(piece, bytes)
    except (Malformed, LinkBroken) as error:  # what the transport makes typed errors of
        assert str(error)  # noqa: PT017 - and say what is wrong


@given(seeds)
def test_a_damaged_stream_of_events(seed: int):
    def read(bad: bytes) -> None:
        decoder = SSEDecoder(limit=LIMIT)
        for piece in pieces_of(bad, seed):
            for event in decoder.feed(piece):
                assert len(event.data) <= LIMIT
                try:
                    event.json()
                except DecodeError as error:
                    assert str(error)  # noqa: PT017

    for bad in damaged(STREAM * 3, seed, TRIES):
        held_to_its_bounds(read, bad, memory=MEMORY)


@given(st.sampled_from(ERRORS), st.sampled_from([400, 409, 422, 500]), seeds)
def test_a_damaged_error(body: bytes, status: int, seed: int):
    def read(bad: bytes) -> None:
        detail = reply_detail(status, bad)
        assert detail
        expected = expected_seq_id(status, bad, detail)
        assert expected is None or isinstance(expected, int)

    for bad in damaged(body, seed, TRIES):
        held_to_its_bounds(read, bad, memory=MEMORY)


@given(st.text(max_size=40), seeds)
def test_damaged_headers(text: str, seed: int):
    for bad in damaged(text.encode(), seed, TRIES):
        value = bad.decode("latin-1")
        headers = dict.fromkeys(("retry-after", "retry-after-ms", "x-deprecation-note", "x-request-id"), value)
        waits = retry_after(headers)
        assert waits is None or 0 <= waits < float("inf")
        deprecation(headers)
        request_id_of(headers)
