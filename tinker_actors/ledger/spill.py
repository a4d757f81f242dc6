"""Spill: payloads of one model that memory has no room for, in files from which they are read back and checked."""

from __future__ import annotations

import logging
import weakref
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol, final

import msgspec
import trio

from tinker_actors.codec.digest import operation_digest
from tinker_actors.errors import DiskDamaged, DiskError
from tinker_actors.ledger.operation import Chunk, Operation, Stored
from tinker_actors.types import ForwardBackwardRequest

if TYPE_CHECKING:
    from tinker_actors.ledger.spill_store import SpillStore

__all__ = ["Crowd", "Segment", "Spill", "SpillStatistics"]

_log = logging.getLogger("tinker_actors.ledger")

_SEGMENT_BYTES: Final = 64_000_000
_SEGMENTS: Final = 16  # in how many files the room is divided at least, so that it comes back bit by bit
_RETRY: Final = 30.0  # seconds until a disk that refused is tried again


class Crowd(Protocol):
    """Whose payloads they are: a ledger."""

    @property
    def excess(self) -> int:
        """How many bytes of payloads are in memory above what may be there."""
        ...

    def next_to_spill(self) -> Operation | None:
        """What of that in memory is needed last; None when all the rest is to stay there."""
        ...

    def spilled(self, operation: Operation, chunks: tuple[Chunk, ...], stored: tuple[Chunk, ...] | None) -> None:
        """``stored`` are ``chunks`` of ``operation``, their payloads on the disk; None: they could not be written."""
        ...


class SpillStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """Estimated bytes of the requests that are on the disk, and how many files of how many bytes there are."""

    requests: int
    bytes: int
    files: int


@final
class Segment:
    """One file. It grows until it is ``full``, and goes when nothing that is in it is needed any more."""

    __slots__ = ("bytes", "full", "live", "path")

    def __init__(self, path: Path) -> None:
        self.path = path
        self.bytes = 0
        self.live = 0
        self.full = False


@final
class Spill:
    """The data of operations as it will be sent; no name, number or key is with it.

    Only the store's task writes. A payload's room is given back, file by file, when nobody holds its ``Stored`` any
    more. A disk that refuses is said once in the log and tried again; until then there is no ``room``.
    """

    def __init__(self, store: SpillStore, owner: Crowd, name: str, max_bytes: int) -> None:
        self._store = store
        self._owner = owner
        self._name = name.replace("/", "-")
        self._max_bytes = max_bytes
        self._segment_bytes = min(_SEGMENT_BYTES, max_bytes // _SEGMENTS)
        self._segments: list[Segment] = []
        self._made = 0
        self._requests = 0
        self._bytes = 0
        # what is let go may be so in any thread, where the last one to hold it happens to be
        self._let_go: deque[tuple[Segment, int]] = deque()
        self._tight = False
        self._closed = False
        self.failure: DiskError | None = None
        """Why the disk takes nothing now."""
        self.due = 0.0
        """When it is to be tried again."""

    @property
    def requests(self) -> int:
        """Estimated bytes of the requests that are on the disk, and not in memory."""
        self._settle()
        return self._requests

    @property
    def room(self) -> int:
        """How many bytes more the disk takes."""
        self._settle()
        if self.failure is not None or self._tight or self._store.broken:
            return 0
        return max(0, self._max_bytes - self._bytes)

    def statistics(self) -> SpillStatistics:
        """Numbers for people and tests."""
        self._settle()
        return SpillStatistics(requests=self._requests, bytes=self._bytes, files=len(self._segments))

    def look(self) -> None:
        """There may be too much in memory, or something on the disk that is not needed any more."""
        self._settle()
        if self._owner.excess > 0 or any(segment.full and not segment.live for segment in self._segments):
            self._store.wake()

    def close(self) -> None:
        """The model is over: its files go."""
        self._closed = True
        self._store.wake()

    async def work(self) -> bool:
        """For the store: write one operation's payloads, remove what is not needed; False when nothing is to do."""
        self._settle()
        if self._closed:
            await self._remove(tuple(self._segments))
            self._store.forget(self)
            return False
        empty = tuple(segment for segment in self._segments if segment.full and not segment.live)
        await self._remove(empty)
        if self.failure is not None and trio.current_time() >= self.due:
            self.failure = None
        if self._owner.excess <= 0 or not self.room or (operation := self._owner.next_to_spill()) is None:
            return False
        chunks = operation.chunks
        stored = None
        try:
            stored = await self._write(chunks)
        except DiskError as error:
            self.failure, self.due = error, trio.current_time() + _RETRY
            _log.error("%s: nothing more can be spilled, and memory has to do: %s", self._name, error)
        finally:
            self._owner.spilled(operation, chunks, stored)
        return stored is not None

    async def read(self, chunk: Chunk) -> Chunk:
        """``chunk`` with its payload. Raises DiskError, DiskDamaged where it is not what was written."""
        stored, disk = chunk.stored, self._store.disk
        assert stored is not None
        blob = await disk.read(stored.path, offset=stored.offset, size=stored.length)
        if len(blob) != stored.length or not await self._store.offload.run(lambda: _is(chunk, blob)):
            problem = f"does not hold what was spilled to it, at {stored.offset} ({stored.length} bytes)"
            raise DiskDamaged(
                stored.path, problem, "The operation can't be sent: check the disk, and give its data anew"
            )
        return msgspec.structs.replace(chunk, data=[blob])

    async def _write(self, chunks: tuple[Chunk, ...]) -> tuple[Chunk, ...] | None:
        """The chunks without their payloads; None when these don't fit in."""
        folder = await self._store.folder()
        parts = [part for chunk in chunks for part in chunk.data or ()]
        lengths = [sum(_length(part) for part in chunk.data or ()) for chunk in chunks]
        if self._bytes + sum(lengths) > self._max_bytes:
            self._tight = self._bytes > 0  # until a file goes: nobody is to count on what is left over
            return None
        segment = self._segments[-1] if self._segments else None
        if segment is None or segment.full:
            self._made += 1
            segment = Segment(folder / f"{self._name}-{self._made}.segment")
            self._segments.append(segment)
        segment.live += 1  # so that it is not removed meanwhile
        try:
            offset = await self._store.disk.append(segment.path, parts)
        finally:
            segment.live -= 1
        self._bytes += offset + sum(lengths) - segment.bytes
        segment.bytes = offset + sum(lengths)
        segment.full = segment.bytes >= self._segment_bytes
        self._store.written(sum(lengths))
        found: list[Chunk] = []
        for chunk, length in zip(chunks, lengths, strict=True):
            found.append(self._stored(chunk, segment, offset, length) if chunk.data is not None else chunk)
            offset += length
        return tuple(found)

    def _stored(self, chunk: Chunk, segment: Segment, offset: int, length: int) -> Chunk:
        request = chunk.request
        assert isinstance(request, ForwardBackwardRequest)
        stored = Stored(segment.path, offset, length, datums=len(request.data), tokens=chunk.tokens)
        segment.live += 1
        self._requests += chunk.size
        weakref.finalize(stored, self._let_go.append, (segment, chunk.size)).atexit = False
        return Chunk(msgspec.structs.replace(request, data=()), chunk.digest, chunk.size, stored=stored)

    def _settle(self) -> None:
        while self._let_go:
            segment, size = self._let_go.popleft()
            segment.live -= 1
            self._requests -= size
            segment.full = segment.full or not segment.live

    async def _remove(self, segments: tuple[Segment, ...]) -> None:
        for segment in segments:
            self._segments.remove(segment)
            self._bytes -= segment.bytes
            self._tight = False
            try:
                await self._store.disk.remove(segment.path)
            except DiskError as error:
                _log.warning("%s", error)  # it goes with its folder


def _length(part: bytes | memoryview) -> int:
    return part.nbytes if isinstance(part, memoryview) else len(part)


def _is(chunk: Chunk, blob: bytes) -> bool:
    return operation_digest(chunk.request, [blob]) == chunk.digest
