"""A sample that arrives token by token."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import final

import msgspec

from tinker_actors.codec.json import decode_json
from tinker_actors.errors import APIConnectionError, APIResponseError, DecodeError
from tinker_actors.types import SampleStreamChunk
from tinker_actors.wire.sse import ServerSentEvent

__all__ = ["SampleStream", "StreamedText"]

_DONE = "[DONE]"


class StreamedText(msgspec.Struct, frozen=True):
    """A whole streamed sample: its ``text``, and the ``last`` chunk, which says why it ended."""

    text: str
    last: SampleStreamChunk


@final
class SampleStream(AsyncIterator[SampleStreamChunk]):
    """The chunks of a sample in order; the last one is ``done``.

    An event whose data are empty says nothing and is passed over, as servers keep a stream awake with it; but one
    that is named "done" or "error" is the end.
    Raises APIConnectionError when the stream ends before, and APIResponseError for an event that is no chunk. A chunk
    with an ``error`` is the last one, too: the server has given up.
    """

    def __init__(self, events: AsyncIterator[ServerSentEvent], name: str) -> None:
        self._events = events
        self._name = name
        self._over = False

    async def __anext__(self) -> SampleStreamChunk:
        if self._over:
            raise StopAsyncIteration
        async for event in self._events:
            if event.data.strip() or event.event in ("done", "error"):
                chunk = self._chunk(event)
                self._over = chunk.done
                return chunk
        text = f"{self._name}: the stream ended before the sample did"
        raise APIConnectionError(text, request=self._name)

    async def collect(self) -> StreamedText:
        """All of it. Look at ``last.error``."""
        tokens: list[str] = []
        last = SampleStreamChunk()
        async for chunk in self:
            last = chunk
            if chunk.error is None and chunk.token is not None:
                tokens.append(chunk.token)
        return StreamedText("".join(tokens), last)

    def _chunk(self, event: ServerSentEvent) -> SampleStreamChunk:
        if event.data.strip() in (_DONE, f'"{_DONE}"'):
            return SampleStreamChunk(finish_reason="stop")
        try:
            chunk = decode_json(event.data.encode() if event.data.strip() else b"{}", SampleStreamChunk)
        except DecodeError as error:
            problem = str(error)
        else:
            if event.event == "error" and chunk.error is None:
                return SampleStreamChunk(error=chunk.token or "the server gives no reason")
            if event.event == "done" and not chunk.done:
                return msgspec.structs.replace(chunk, finish_reason="stop")
            return chunk
        raise APIResponseError(f"{self._name}: an event that is no part of a sample: {problem}", request=self._name)
