"""A sample that arrives token by token, for threads and for asyncio."""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from typing import Self, final

import trio

from tinker_actors.blocking.engine import Engine
from tinker_actors.blocking.future import BlockingFuture
from tinker_actors.clients.streaming import StreamedSample
from tinker_actors.errors import ClosedError
from tinker_actors.types import SampleStreamChunk

__all__ = ["BlockingStream"]

_WHAT = "sample_stream"


@final
class BlockingStream(Iterator[SampleStreamChunk], AsyncIterator[SampleStreamChunk]):
    """The tokens of one sample, each a SampleStreamChunk as soon as it is there; the last has a ``finish_reason``.

    ``for chunk in stream`` blocks for each, ``async for chunk in stream`` waits in asyncio; several threads may take
    from one. ``close()``, the end of a ``with`` or ``async with`` block, and letting the stream go give up the rest:
    the server makes no more. Raises RequestFailedError where the server gives up, APIConnectionError where the stream
    breaks off, NotStreamed at servers that can't stream, and ClosedError when the runtime is over.
    """

    def __init__(
        self,
        engine: Engine,
        opening: Callable[[], AbstractAsyncContextManager[StreamedSample]],
        timeout: float | None,
    ) -> None:
        self._engine = engine
        self._timeout = timeout
        self._arrived = arrived = _Arrived(engine)
        scope = trio.CancelScope()
        engine.spawn(_WHAT, scope, lambda: _receive(opening(), scope, arrived))
        self._unclosed = weakref.finalize(self, engine.cancel_soon, scope)
        self._unclosed.atexit = False

    @property
    def fallback(self) -> bool:
        """Whether the server can't stream, and the finished sample comes in pieces. Blocks until that is known."""
        self._wait_open()
        return bool(self._arrived.fallback)

    def text(self) -> str:
        """The rest of it as text; blocks. Raises as the tokens do."""
        return "".join([chunk.token for chunk in self if chunk.token is not None])

    def close(self) -> None:
        """Give up the rest; returns when nothing is left of it, neither a connection nor a place in the limits."""
        self._give_up()
        while not self._arrived.over:
            self._signal().result()

    async def aclose(self) -> None:
        """``close``, in asyncio."""
        self._give_up()
        while not self._arrived.over:
            await self._signal()

    def __next__(self) -> SampleStreamChunk:
        """The next one. Raises WaitTimeout where the handle is one ``within`` seconds: the stream goes on then."""
        while True:
            over = self._arrived.over  # before the look, or what comes between both would be lost
            chunk = self._arrived.take()
            if chunk is not None:
                return chunk
            if over:
                self._arrived.reraise()
                raise StopIteration
            self._signal().result(self._timeout)

    async def __anext__(self) -> SampleStreamChunk:
        while True:
            over = self._arrived.over
            chunk = self._arrived.take()
            if chunk is not None:
                return chunk
            if over:
                self._arrived.reraise()
                raise StopAsyncIteration
            await self._signal()

    def __iter__(self) -> Self:
        return self

    def __aiter__(self) -> Self:
        return self

    def __enter__(self) -> Self:
        try:
            self._wait_open()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        try:
            while self._arrived.fallback is None and not self._arrived.over:
                await self._arrived.signal(head=True)
            self._arrived.reraise()
        except BaseException:
            self._give_up()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def _wait_open(self) -> None:
        while self._arrived.fallback is None and not self._arrived.over:
            self._arrived.signal(head=True).result(self._timeout)
        if self._arrived.fallback is None:
            self._arrived.reraise()

    def _give_up(self) -> None:
        self._engine.require_own_process(_WHAT)
        self._arrived.drop()
        self._unclosed()

    def _signal(self) -> BlockingFuture[None]:
        return self._arrived.signal()

    def __repr__(self) -> str:
        return f"<BlockingStream {'over' if self._arrived.over else 'open'}>"


@final
class _Arrived:
    """What has come of a stream: filled in the engine, emptied anywhere."""

    def __init__(self, engine: Engine) -> None:
        self.fallback: bool | None = None
        self.over = False
        self._engine = engine
        self._lock = threading.RLock()
        self._chunks: deque[SampleStreamChunk] = deque()
        self._error: BaseException | None = None
        self._dropped = False
        self._waiting: list[BlockingFuture[None]] = []

    def take(self) -> SampleStreamChunk | None:
        """The next chunk, if it is there."""
        with self._lock:
            return self._chunks.popleft() if self._chunks else None

    def reraise(self) -> None:
        """Raise what ended it, unless that was its own end, or that of whoever takes from it."""
        if self._error is not None and not self._dropped:
            raise self._error

    def drop(self) -> None:
        """Nobody wants any more of it."""
        with self._lock:
            self._dropped = True
            self._chunks.clear()

    def signal(self, *, head: bool = False) -> BlockingFuture[None]:
        """Done at the next change, or already when a chunk is there, or the end, or the ``head`` that is due."""
        with self._lock:
            future = self._engine.signal(_WHAT)
            if self.over or self._chunks or (head and self.fallback is not None):
                future.give(None)
            else:
                self._waiting.append(future)
            return future

    def open(self, *, fallback: bool) -> None:
        """Its head is there."""
        self.fallback = fallback
        self._tell()

    def add(self, chunk: SampleStreamChunk) -> None:
        """One more."""
        with self._lock:
            if not self._dropped:
                self._chunks.append(chunk)
        self._tell()

    def end(self, error: BaseException | None) -> None:
        """No more will come."""
        self._error = error
        self.over = True
        self._tell()

    def _tell(self) -> None:
        with self._lock:
            waiting, self._waiting = self._waiting, []
        for future in waiting:
            future.give(None)


async def _receive(
    opening: AbstractAsyncContextManager[StreamedSample], scope: trio.CancelScope, arrived: _Arrived
) -> None:
    end: BaseException | None = ClosedError("sample_stream was not done: the runtime was closed")
    try:
        with scope:
            async with opening as stream:
                arrived.open(fallback=stream.fallback)
                async for chunk in stream:
                    arrived.add(chunk)
            end = None
    except Exception as error:  # noqa: BLE001  # for whoever takes from the stream
        end = error
    finally:
        arrived.end(end)
