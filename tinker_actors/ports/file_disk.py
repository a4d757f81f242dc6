"""FileDisk: the Disk port on the machine's own files."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import stat
import time
import weakref
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Final, final

from tinker_actors.errors import (
    DiskDamaged,
    DiskError,
    DiskFull,
    DiskLocked,
    DiskMissing,
    DiskReadOnly,
    NotAFolder,
)
from tinker_actors.ports.disk import Disk
from tinker_actors.ports.offload import Offload

__all__ = ["FileDisk"]

_AT_ONCE: Final = 512
"""Buffers for one system call; the kernel takes 1024."""

_LOOKS, _LOOK = 100, 0.001
"""How often, and for how many seconds, who takes a lock waits for those who only look at it."""

_KINDS: Final[dict[int, tuple[type[DiskError], str]]] = {
    errno.ENOSPC: (DiskFull, "Make room"),
    errno.EDQUOT: (DiskFull, "Make room, or ask for a larger quota"),
    errno.EROFS: (DiskReadOnly, "Give a folder that can be written"),
    errno.EACCES: (DiskReadOnly, "Give a folder that this user may use"),
    errno.EPERM: (DiskReadOnly, "Give a folder that this user may use"),
    errno.ENOENT: (DiskMissing, "Check the path"),
    errno.ENOTDIR: (NotAFolder, "Move the file away, or give another path"),
    errno.EISDIR: (DiskError, "Move the folder away, or give another path"),
}
_ELSE: Final = (DiskError, "Look at the disk: the system's log may say more")


@final
class FileDisk(Disk):
    """Files by their path; each call is one piece of work for ``offload``."""

    def __init__(self, offload: Offload) -> None:
        self._offload = offload
        self._locks = _Locks()

    async def read(self, path: Path, *, offset: int = 0, size: int | None = None) -> bytes:
        """``size`` bytes of the file from ``offset`` on, or all; fewer where it ends before."""
        return await self._offload.run(lambda: _read(path, offset, size))

    async def size(self, path: Path) -> int | None:
        """Bytes of the file; None where there is none."""
        return await self._offload.run(lambda: _size(path))

    async def append(self, path: Path, parts: Sequence[bytes | memoryview]) -> int:
        """Write ``parts`` one after another to the file's end, and return where they begin."""
        return await self._offload.run(lambda: _append(path, parts))

    async def sync(self, path: Path) -> None:
        """fsync of the file, then of its folder."""
        await self._offload.run(lambda: _sync(path))

    async def replace(self, path: Path, data: bytes) -> None:
        """A new file beside it, fsync, rename over it, fsync of the folder."""
        await self._offload.run(lambda: _replace(path, data))

    async def truncate(self, path: Path, size: int) -> None:
        """Cut the file to its first ``size`` bytes, and fsync."""
        await self._offload.run(lambda: _truncate(path, size))

    async def remove(self, path: Path) -> None:
        """Unlink, and fsync of the folder."""
        await self._offload.run(lambda: _remove(path))

    async def names(self, folder: Path) -> tuple[str, ...]:
        """The names in ``folder``, sorted."""
        return await self._offload.run(lambda: _names(folder))

    async def make_folder(self, folder: Path, *, private: bool = False) -> None:
        """Make ``folder``, and those above it, unless it is there."""
        await self._offload.run(lambda: _make_folder(folder, private=private))

    async def remove_folder(self, folder: Path) -> None:
        """Remove ``folder`` and all that is in it, if it is there."""
        await self._offload.run(lambda: _remove_folder(folder))

    def lock(self, path: Path) -> AbstractAsyncContextManager[None]:
        """flock, which the system lets go when the process ends."""
        return self._hold(path)

    async def locked(self, path: Path) -> bool:
        """A shared flock for a moment, which whoever takes the lock knows from a holder's."""
        return await self._offload.run(lambda: _locked(path))

    @asynccontextmanager
    async def _hold(self, path: Path) -> AsyncGenerator[None]:
        lock = await self._offload.run(lambda: _lock(path, self._locks))
        try:
            yield
        finally:
            lock.release()


@contextmanager
def _translated(path: Path, doing: str) -> Generator[None]:
    try:
        yield
    except OSError as error:
        kind, cure = _KINDS.get(error.errno or 0, _ELSE)
        raise kind(path, f"can't be {doing}: {error.strerror or error}", cure) from error


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.new")


def _is_temporary(name: str) -> bool:
    return name.startswith(".") and name.endswith(".new")


def _open(path: Path, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o666)


def _sync_folder(folder: Path) -> None:
    descriptor = _open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read(path: Path, offset: int, size: int | None) -> bytes:
    with _translated(path, "read"), path.open("rb", buffering=0) as file:
        file.seek(offset)
        if size is None:
            return file.read()
        data = bytearray(size)
        view, done = memoryview(data), 0
        while done < size and (count := file.readinto(view[done:])):
            done += count
        return bytes(view[:done])


def _size(path: Path) -> int | None:
    with _translated(path, "read"):
        try:
            found = path.stat()
        except FileNotFoundError:
            return None
        if stat.S_ISDIR(found.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        return found.st_size


def _write(descriptor: int, parts: Sequence[bytes | memoryview]) -> None:
    left = [memoryview(part).cast("B") for part in parts]
    left.reverse()
    while left:
        batch = left[: -_AT_ONCE - 1 : -1]
        count = os.writev(descriptor, batch)
        while left and count >= left[-1].nbytes:
            count -= left.pop().nbytes
        if count:
            left[-1] = left[-1][count:]


def _append(path: Path, parts: Sequence[bytes | memoryview]) -> int:
    with _translated(path, "written"):
        descriptor = _open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        try:
            start = os.fstat(descriptor).st_size
            try:
                _write(descriptor, parts)
            except BaseException:
                os.ftruncate(descriptor, start)
                raise
            return start
        finally:
            os.close(descriptor)


def _sync(path: Path) -> None:
    with _translated(path, "written"):
        descriptor = _open(path, os.O_WRONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        _sync_folder(path.parent)


def _replace(path: Path, data: bytes) -> None:
    temporary = _temporary(path)
    with _translated(path, "written"):
        try:
            descriptor = _open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            try:
                _write(descriptor, (data,))
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            temporary.replace(path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise
        _sync_folder(path.parent)


def _truncate(path: Path, size: int) -> None:
    with _translated(path, "cut"):
        descriptor = _open(path, os.O_WRONLY)
        try:
            length = os.fstat(descriptor).st_size
            if length < size:
                problem = f"is {length} bytes long, where {size} are known to have been written"
                raise DiskDamaged(path, problem, "Something else has changed it: restore it, or begin anew")
            os.ftruncate(descriptor, size)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _remove(path: Path) -> None:
    with _translated(path, "removed"):
        try:
            path.unlink()
        except FileNotFoundError:
            return
        _sync_folder(path.parent)


def _names(folder: Path) -> tuple[str, ...]:
    with _translated(folder, "listed"):
        return tuple(sorted(name for name in os.listdir(folder) if not _is_temporary(name)))  # noqa: PTH208


def _make_folder(folder: Path, *, private: bool) -> None:
    with _translated(folder, "made"):
        missing: list[Path] = []
        above = folder
        while not above.exists():
            missing.append(above)
            above = above.parent
        for path in reversed(missing):
            path.mkdir(mode=0o700 if private else 0o777, exist_ok=True)
            _sync_folder(path.parent)
        found = folder.lstat() if private else folder.stat()
        if not stat.S_ISDIR(found.st_mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        if private and (found.st_uid != os.getuid() or found.st_mode & 0o077):
            raise DiskReadOnly(folder, "is there, and is not this user's alone", "Remove it, or give another folder")


def _remove_folder(folder: Path) -> None:
    with _translated(folder, "removed"):
        try:
            shutil.rmtree(folder)
        except FileNotFoundError:
            return
        _sync_folder(folder.parent)


@final
class _Lock:
    """An open file that is locked, or about to be; one of those that are ``held``."""

    def __init__(self, path: Path, held: set[_Lock]) -> None:
        self.descriptor = _open(path, os.O_RDWR | os.O_CREAT)
        self._held = held
        held.add(self)

    def release(self) -> None:
        """Let it go, once."""
        self._held.discard(self)
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


@final
class _Locks:
    """Those of one disk. A forked process, which may outlive this one, lets go of what is not its own."""

    def __init__(self) -> None:
        self._held: set[_Lock] = set()
        self._follows_forks = False

    def open(self, path: Path) -> _Lock:
        """One more."""
        if not self._follows_forks:  # for good: Python takes no such hook back, so most disks have none
            self._follows_forks = True
            os.register_at_fork(after_in_child=partial(_let_go, weakref.ref(self)))
        return _Lock(path, self._held)

    def let_go(self) -> None:
        """Let go of all."""
        for lock in tuple(self._held):
            lock.release()


def _let_go(known: weakref.ref[_Locks]) -> None:
    locks = known()
    if locks is not None:
        locks.let_go()


def _lock(path: Path, locks: _Locks) -> _Lock:
    looks = 0
    with _translated(path, "locked"):
        while True:
            lock = locks.open(path)
            try:
                if _flock(lock.descriptor, fcntl.LOCK_EX):
                    if _is(path, lock.descriptor):
                        return lock  # else whoever held it has removed it
                elif looks < _LOOKS and _flock(lock.descriptor, fcntl.LOCK_SH):
                    looks += 1  # somebody only looks at it, which is over in a moment
                    time.sleep(_LOOK)
                else:
                    problem = "is held by another process, or twice in this one"
                    raise DiskLocked(path, problem, "Wait for its end, or give another name")
            except BaseException:
                lock.release()
                raise
            lock.release()


def _locked(path: Path) -> bool:
    with _translated(path, "read"):
        try:
            descriptor = _open(path, os.O_RDONLY)
        except FileNotFoundError:
            return False
        try:
            return not _flock(descriptor, fcntl.LOCK_SH)
        finally:
            os.close(descriptor)


def _flock(descriptor: int, how: int) -> bool:
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is(path: Path, descriptor: int) -> bool:
    try:
        there = path.stat()
    except FileNotFoundError:
        return False
    held = os.fstat(descriptor)
    return (there.st_dev, there.st_ino) == (held.st_dev, held.st_ino)
