"""A disk in memory that behaves as a real one, deaths included: what was not synced may be lost or torn."""

from __future__ import annotations

import random as random_module
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple, TypeVar, final

from tinker_actors.errors import DiskDamaged, DiskError, DiskFull, DiskLocked, DiskMissing, DiskReadOnly, NotAFolder
from tinker_actors.ports import Disk, InlineOffload

__all__ = ["SimulatedDisk"]

T = TypeVar("T")

_ROOM: Final = 4


class _File:
    """``data`` as it is read; of it the first ``synced`` bytes are certain. -1: not even that the file is there."""

    __slots__ = ("data", "locked", "synced")

    def __init__(self, data: bytes | bytearray = b"", synced: int = -1) -> None:
        self.data = bytearray(data)
        self.synced = synced
        self.locked = False


class _UnderWay(NamedTuple):
    """A change that has begun: what it does, and what of it a death may leave."""

    name: str
    path: Path
    work: Callable[[], object]
    in_part: Callable[[], object]


@final
class SimulatedDisk(Disk):
    """What a process sees of a disk; ``die`` is its death, and gives what the next process sees.

    Each call takes ``latency`` virtual seconds. ``capacity`` is how many bytes fit in, None for any number;
    ``read_only`` refuses every change. ``fault(call, path)`` may raise the DiskError that a call, by its method's
    name, is to end with. ``death(call, path)`` is asked right before a call takes effect, and may let the disk die.
    """

    def __init__(
        self,
        *,
        random: random_module.Random,
        capacity: int | None = None,
        latency: float = 0.001,
        fault: Callable[[str, Path], None] | None = None,
        death: Callable[[str, Path], None] | None = None,
    ) -> None:
        self.capacity = capacity
        self.read_only = False
        self.fault = fault
        self.death = death
        self.calls = 0
        """How many have been made by all processes."""
        self._random = random
        self._latency = latency
        self._offload = InlineOffload(_ROOM)
        self._entries: dict[Path, _File | None] = {Path("/"): None}  # None is a folder
        self._under_way: dict[int, _UnderWay] = {}
        self._dead = False

    @property
    def used(self) -> int:
        """Bytes in all files."""
        return sum(len(file.data) for file in self._entries.values() if file is not None)

    def die(self, *, torn: Path | None = None, lost: Path | None = None) -> SimulatedDisk:
        """The process, or the machine, dies now. What this disk is still asked for fails.

        What is under way has happened in part, wholly or not at all; what was not synced is there, lost, or torn: cut
        at any byte, or with zeros where data was to be. Of the file ``torn`` what was not synced is torn for certain,
        of ``lost`` it is lost, a sync under way included.
        """
        for call in tuple(self._under_way.values()):
            if call.path != lost:
                self._interrupt(call, wholly=call.path == torn)
        self._under_way.clear()
        found = SimulatedDisk(
            random=self._random, capacity=self.capacity, latency=self._latency, fault=self.fault, death=self.death
        )
        found.read_only = self.read_only
        found.calls = self.calls
        for path, file in self._entries.items():
            if file is None:
                found._entries[path] = None
            elif path == torn:
                found._entries[path] = self._torn(file)
            elif path == lost:
                if file.synced >= 0:
                    found._entries[path] = _File(file.data[: file.synced], file.synced)
            elif file.synced >= 0 or self._random.random() < 0.5:
                found._entries[path] = self._survivor(file)
        self._dead = True
        return found

    def damage(self, path: Path, offset: int) -> None:
        """Flip a bit of a file's byte, as a bad block does. Raises DiskMissing, DiskDamaged beyond its end."""
        file = self._file(path)
        if not 0 <= offset < len(file.data):
            raise DiskDamaged(path, f"has no byte {offset}", "Damage one that it has")
        file.data[offset] ^= 1 << self._random.randrange(8)

    async def read(self, path: Path, *, offset: int = 0, size: int | None = None) -> bytes:
        """``size`` bytes of the file from ``offset`` on, or all; fewer where it ends before."""
        return await self._call(
            "read", path, lambda: bytes(self._file(path).data[offset : None if size is None else offset + size])
        )

    async def size(self, path: Path) -> int | None:
        """Bytes of the file; None where there is none."""

        def measure() -> int | None:
            self._require_no_file_above(path)
            return len(self._file(path).data) if path in self._entries else None

        return await self._call("size", path, measure)

    async def append(self, path: Path, parts: Sequence[bytes | memoryview]) -> int:
        """Write ``parts`` one after another to the file's end, and return where they begin."""
        data = b"".join(parts)

        def write(data: bytes = data) -> int:
            self._require_room(path, len(data))
            file = self._file(path, make=True)
            start = len(file.data)
            file.data += data
            return start

        return await self._call("append", path, write, lambda: write(data[: self._random.randint(0, len(data))]))

    async def sync(self, path: Path) -> None:
        """Make certain what was appended to the file, and that the file is there."""
        file = self._peek(path)
        length = None if file is None else len(file.data)

        def harden() -> None:
            found = self._file(path)
            if found is file and length is not None:  # what is appended meanwhile may miss it
                found.synced = max(found.synced, length)
            else:
                found.synced = len(found.data)

        await self._change("sync", path, harden)

    async def replace(self, path: Path, data: bytes) -> None:
        """Let the file hold ``data`` and nothing else."""

        def rename() -> None:
            self._require_room(path, len(data))
            if path in self._entries:
                self._file(path)
            self._require_folder(path.parent)
            self._entries[path] = _File(data, len(data))

        await self._change("replace", path, rename)

    async def truncate(self, path: Path, size: int) -> None:
        """Cut the file to its first ``size`` bytes. Raises DiskDamaged where it is shorter than that."""

        def cut() -> None:
            file = self._file(path)
            if len(file.data) < size:
                problem = f"is {len(file.data)} bytes long, where {size} are known to have been written"
                raise DiskDamaged(path, problem, "Something else has changed it: restore it, or begin anew")
            del file.data[size:]
            file.synced = size

        await self._change("truncate", path, cut)

    async def remove(self, path: Path) -> None:
        """Remove the file, if it is there."""

        def unlink() -> None:
            self._require_no_file_above(path)
            if path in self._entries:
                self._file(path)
                del self._entries[path]

        await self._change("remove", path, unlink)

    async def names(self, folder: Path) -> tuple[str, ...]:
        """The names in ``folder``, sorted."""

        def collect() -> tuple[str, ...]:
            self._require_folder(folder)
            return tuple(sorted(path.name for path in self._entries if path.parent == folder and path != folder))

        return await self._call("names", folder, collect)

    async def make_folder(self, folder: Path, *, private: bool = False) -> None:
        """Make ``folder``, and those above it, unless it is there."""

        def make() -> None:
            self._require_no_file_above(folder)
            if self._entries.get(folder) is not None:
                raise _no_folder(folder)
            for path in (folder, *folder.parents):
                self._entries.setdefault(path, None)

        await self._change("make_folder", folder, make)

    async def remove_folder(self, folder: Path) -> None:
        """Remove ``folder`` and all that is in it, if it is there."""

        def gone() -> list[Path]:
            self._require_no_file_above(folder)
            if self._entries.get(folder) is not None:
                raise _no_folder(folder)
            return [path for path in self._entries if path == folder or folder in path.parents]

        def unlink() -> None:
            for path in gone():
                del self._entries[path]

        def in_part() -> None:
            for path in gone():
                if self._entries[path] is not None and self._random.random() < 0.5:
                    del self._entries[path]

        await self._call("remove_folder", folder, unlink, in_part)

    def lock(self, path: Path) -> AbstractAsyncContextManager[None]:
        """Hold the file ``path`` alone for as long as the block, or the process."""
        return self._hold(path)

    async def locked(self, path: Path) -> bool:
        """Whether somebody holds the file ``path``."""

        def look() -> bool:
            self._require_no_file_above(path)
            return path in self._entries and self._file(path).locked

        return await self._call("locked", path, look)

    @asynccontextmanager
    async def _hold(self, path: Path) -> AsyncGenerator[None]:
        def take() -> _File:
            file = self._file(path, make=True)
            if file.locked:
                problem = "is held by another process, or twice in this one"
                raise DiskLocked(path, problem, "Wait for its end, or give another name")
            file.locked = True
            return file

        file = await self._call("lock", path, take)
        try:
            yield
        finally:
            file.locked = False

    # ---- one call

    async def _change(self, call: str, path: Path, work: Callable[[], T]) -> T:
        """A change that a death lets happen or not."""
        return await self._call(call, path, work, lambda: work() if self._random.random() < 0.5 else None)

    async def _call(
        self, call: str, path: Path, work: Callable[[], T], in_part: Callable[[], object] | None = None
    ) -> T:
        self._require_alive(path)
        self.calls += 1
        number = self.calls

        def do() -> T:
            self._require_alive(path)
            if self.death is not None:
                self.death(call, path)
                self._require_alive(path)
            self._under_way.pop(number, None)
            self._refuse(call, path, changes=in_part is not None or call == "lock")
            return work()

        if in_part is not None:
            self._under_way[number] = _UnderWay(call, path, work, in_part)
        try:
            return await self._offload.run(do, cost=self._latency)
        finally:
            self._under_way.pop(number, None)

    def _interrupt(self, call: _UnderWay, *, wholly: bool) -> None:
        with suppress(DiskError):  # it would have failed
            self._refuse(call.name, call.path, changes=True)
            if wholly:
                call.work()
            else:
                call.in_part()

    def _require_alive(self, path: Path) -> None:
        if self._dead:
            raise DiskError(path, "can't be used: the process is dead", "Use the disk that die() has given")

    def _refuse(self, call: str, path: Path, *, changes: bool) -> None:
        if self.fault is not None:
            self.fault(call, path)
        if self.read_only and changes:
            raise DiskReadOnly(path, "can't be written: Read-only file system", "Give a folder that can be written")

    # ---- what is there

    def _survivor(self, file: _File) -> _File:
        certain = max(file.synced, 0)
        kept = self._random.randint(certain, len(file.data))
        data = file.data[:kept]
        if kept > certain and self._random.random() < 0.25:
            start = self._random.randint(certain, kept)
            end = self._random.randint(start, kept)
            data[start:end] = bytes(end - start)
        return _File(data, kept)

    def _torn(self, file: _File) -> _File:
        """Of what is not certain something is missing: the end, or a part that is zeros."""
        certain, end = max(file.synced, 0), len(file.data)
        if certain == end:
            return _File(file.data, end)
        start = self._random.randint(certain, end - 1)
        data = file.data[:start]
        if start == certain or self._random.random() < 0.5:
            stop = self._random.randint(start + 1, end)
            data += bytes(stop - start) + file.data[stop:]
        return _File(data, len(data))

    def _peek(self, path: Path) -> _File | None:
        return self._entries.get(path)

    def _file(self, path: Path, *, make: bool = False) -> _File:
        file = self._entries.get(path)
        if file is not None:
            return file
        if path in self._entries:
            raise DiskError(path, "can't be read: Is a directory", "Move the folder away, or give another path")
        self._require_folder(path.parent)
        if not make:
            raise _missing(path)
        file = self._entries[path] = _File()
        return file

    def _require_folder(self, folder: Path) -> None:
        self._require_no_file_above(folder)
        if folder not in self._entries:
            raise _missing(folder)
        if self._entries[folder] is not None:
            raise _no_folder(folder)

    def _require_no_file_above(self, path: Path) -> None:
        for above in path.parents:
            if self._entries.get(above) is not None:
                raise _no_folder(above)

    def _require_room(self, path: Path, size: int) -> None:
        if self.capacity is not None and self.used + size > self.capacity:
            raise DiskFull(path, "can't be written: No space left on device", "Make room")


def _missing(path: Path) -> DiskMissing:
    return DiskMissing(path, "can't be used: No such file or directory", "Check the path")


def _no_folder(path: Path) -> NotAFolder:
    return NotAFolder(path, "can't be used: Not a directory", "Move the file away, or give another path")
