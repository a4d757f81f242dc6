"""The machine's disk and the simulated one behave alike; a death takes only what may be lost."""

from __future__ import annotations

import errno
import fcntl
import os
import random
import subprocess
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from tinker_actors.errors import (
    DiskDamaged,
    DiskError,
    DiskFull,
    DiskLocked,
    DiskMissing,
    DiskReadOnly,
    InvalidInput,
    NotAFolder,
)
from tinker_actors.ports import Disk, FileDisk, InlineOffload
from tinker_actors.runtime import open_runtime
from tinker_actors.testing.disk import SimulatedDisk

_PATHS = st.sampled_from(["a", "b", "f", "f/a", "f/b", "f/g", "f/g/a", "a/b", "a/b/c"])
_DATA = st.binary(max_size=9)
_CALLS = st.one_of(
    st.tuples(st.just("read"), _PATHS, st.integers(0, 12), st.none() | st.integers(0, 12)),
    st.tuples(st.just("append"), _PATHS, st.lists(_DATA, max_size=3)),
    st.tuples(st.just("replace"), _PATHS, _DATA),
    st.tuples(st.just("truncate"), _PATHS, st.integers(0, 12)),
    st.tuples(
        st.sampled_from(
            ["size", "sync", "remove", "names", "make_folder", "remove_folder", "lock", "unlock", "locked"]
        ),
        _PATHS,
    ),
)


def _names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


async def _outcome(disk: Disk, root: Path, held: dict[str, AsyncExitStack], call: tuple[Any, ...]) -> object:
    name, path, *rest = call
    try:
        if name == "read":
            return await disk.read(root / path, offset=rest[0], size=rest[1])
        if name == "unlock":
            if path in held:
                await held.pop(path).aclose()
            return None
        if name == "lock":
            if path in held:
                with pytest.raises(DiskError):  # unless it was removed or replaced, which both say alike
                    async with disk.lock(root / path):
                        return "locked twice"
                return "refused"
            stack = AsyncExitStack()
            await stack.enter_async_context(disk.lock(root / path))
            held[path] = stack
            return "locked"
        return await getattr(disk, name)(root / path, *rest)
    except DiskError as error:
        return type(error)


@given(st.lists(_CALLS, max_size=30))
def test_the_simulated_disk_behaves_as_the_machine_s(tmp_path_factory: pytest.TempPathFactory, calls: list[Any]):
    root = tmp_path_factory.mktemp("disk")

    async def outcomes(disk: Disk) -> list[object]:
        await disk.make_folder(root)
        held: dict[str, AsyncExitStack] = {}
        try:
            return [await _outcome(disk, root, held, call) for call in calls]
        finally:
            for stack in held.values():
                await stack.aclose()

    real = trio.run(outcomes, FileDisk(InlineOffload()))
    simulated = trio.run(outcomes, SimulatedDisk(random=random.Random(0)), clock=MockClock(autojump_threshold=0))
    assert simulated == real


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("append"), st.binary(min_size=1, max_size=9)),
            st.tuples(st.just("sync")),
            st.tuples(st.just("replace"), st.binary(max_size=9)),
            st.tuples(st.just("truncate")),
        ),
        max_size=12,
    ),
    st.integers(0, 2**32),
    st.booleans(),
)
def test_after_a_death_what_was_synced_is_there_and_what_was_replaced_is_old_or_new(
    calls: list[Any], seed: int, last_is_under_way: bool
):
    path = Path("/jobs/one")
    rng = random.Random(seed)

    async def main() -> None:
        disk = SimulatedDisk(random=rng)
        await disk.make_folder(path.parent)
        whole, certain = b"", None  # as it is read; what is certain of it, None: nothing, not even the file

        async def apply(call: Any) -> None:
            if call[0] == "append":
                await disk.append(path, (call[1],))
            elif call[0] == "replace":
                await disk.replace(path, call[1])
            elif await disk.size(path) is not None:
                await (disk.sync(path) if call[0] == "sync" else disk.truncate(path, len(whole) // 2))

        def after(call: Any, whole: bytes, certain: bytes | None, there: bool) -> tuple[bytes, bytes | None]:
            if call[0] == "append":
                return whole + call[1], certain
            if call[0] == "replace":
                return call[1], call[1]
            if not there:
                return whole, certain
            if call[0] == "truncate":
                whole = whole[: len(whole) // 2]
            return whole, whole

        done = calls[:-1] if last_is_under_way else calls
        for call in done:
            await apply(call)
            there = await disk.size(path) is not None
            whole, certain = after(call, whole, certain, there)
        allowed = [(whole, certain)]
        if last_is_under_way and calls:
            there = await disk.size(path) is not None
            allowed.append(after(calls[-1], whole, certain, there))

            async def be_cut_off() -> None:
                with pytest.raises(DiskError, match="the process is dead"):
                    await apply(calls[-1])

            async with trio.open_nursery() as nursery:
                if calls[-1][0] in ("append", "replace"):
                    nursery.start_soon(be_cut_off)
                    await trio.testing.wait_all_tasks_blocked()
                else:
                    allowed.pop()
                found = disk.die()
        else:
            found = disk.die()
        left = await found.read(path) if await found.size(path) is not None else None

        def fits(whole: bytes, certain: bytes | None) -> bool:
            if left is None:
                return certain is None
            kept = certain or b""
            tail = whole[len(kept) : len(left)]
            return (
                left.startswith(kept)
                and len(left) <= len(whole)
                and all(b in (w, 0) for b, w in zip(left[len(kept) :], tail, strict=True))
            )

        assert any(fits(*one) for one in allowed), (left, allowed)

    trio.run(main, clock=MockClock(autojump_threshold=0))


async def test_all_that_a_death_may_do_happens(autojump_clock: MockClock):
    seen: set[str] = set()
    for seed in range(200):
        disk = SimulatedDisk(random=random.Random(seed))
        path = Path("/file")
        await disk.append(path, (b"abcd",))
        found = disk.die()
        if await found.size(path) is None:
            seen.add("lost")
            continue
        left = await found.read(path)
        seen.add("whole" if left == b"abcd" else "zeros" if 0 in left else "cut")
    assert seen == {"lost", "whole", "cut", "zeros"}


@pytest.mark.parametrize("certain", [b"", b"certain"])
async def test_what_is_to_be_torn_is_torn_and_what_is_to_be_lost_is_lost(certain: bytes, autojump_clock: MockClock):
    path, other = Path("/file"), Path("/other")
    ends: set[str] = set()
    for seed in range(60):
        for how in ("torn", "lost"):
            disk = SimulatedDisk(random=random.Random(seed))
            await disk.append(other, (b"other",))
            await disk.sync(other)
            if certain:
                await disk.append(path, (certain,))
                await disk.sync(path)
            await disk.append(path, (b"more",))
            found = disk.die(torn=path) if how == "torn" else disk.die(lost=path)
            assert await found.read(other) == b"other"
            left = None if await found.size(path) is None else await found.read(path)
            if how == "lost":
                assert left == (certain or None)
                continue
            assert left is not None
            more = left.removeprefix(certain)
            assert left.startswith(certain)
            assert more != b"more"
            assert len(more) <= len(b"more")
            ends.add("zeros" if 0 in more else "cut")
            assert all(byte in (due, 0) for byte, due in zip(more, b"more", strict=False))
    assert ends == {"zeros", "cut"}


@pytest.mark.parametrize("how", ["torn", "lost"])
async def test_a_sync_that_a_death_comes_into_makes_certain_what_it_was_to_or_nothing(
    how: str, autojump_clock: MockClock
):
    path = Path("/file")
    disk = SimulatedDisk(random=random.Random(1))
    await disk.append(path, (b"some",))
    await disk.sync(path)
    await disk.append(path, (b"more",))

    async def be_cut_off() -> None:
        with pytest.raises(DiskError, match="the process is dead"):
            await disk.sync(path)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(be_cut_off)
        await trio.testing.wait_all_tasks_blocked()
        found = disk.die(torn=path) if how == "torn" else disk.die(lost=path)
    assert await found.read(path) == (b"somemore" if how == "torn" else b"some")


async def test_a_death_ends_locks(autojump_clock: MockClock):
    disk = SimulatedDisk(random=random.Random(1))
    await disk.replace(Path("/lock"), b"")
    async with disk.lock(Path("/lock")):
        with pytest.raises(DiskLocked):
            async with disk.lock(Path("/lock")):
                pass
        async with disk.die().lock(Path("/lock")):
            pass


@pytest.mark.parametrize("call", ["append", "replace"])
async def test_a_full_simulated_disk_changes_nothing(call: str, autojump_clock: MockClock):
    disk, path = SimulatedDisk(random=random.Random(1), capacity=10), Path("/file")
    await disk.append(path, (b"12345678",))
    with pytest.raises(DiskFull, match="Make room"):
        await (disk.append(path, (b"123",)) if call == "append" else disk.replace(path, b"123"))
    assert await disk.read(path) == b"12345678"


async def test_a_read_only_disk_a_fault_and_a_bad_block(autojump_clock: MockClock):
    disk, path = SimulatedDisk(random=random.Random(1)), Path("/file")
    await disk.append(path, (b"1234",))
    disk.read_only = True
    with pytest.raises(DiskReadOnly):
        await disk.append(path, (b"5",))
    disk.damage(path, 2)
    found = await disk.read(path)
    assert found != b"1234"
    assert (found[:2], found[3:]) == (b"12", b"4")

    def fault(call: str, at: Path) -> None:
        raise DiskError(at, f"can't be used by {call}", "Try another")

    disk.fault = fault
    with pytest.raises(DiskError, match="can't be used by read"):
        await disk.read(path)


@pytest.mark.parametrize(
    ("number", "kind", "cure"),
    [
        (errno.ENOSPC, DiskFull, "Make room"),
        (errno.EDQUOT, DiskFull, "quota"),
        (errno.EROFS, DiskReadOnly, "can be written"),
        (errno.EACCES, DiskReadOnly, "this user"),
        (errno.EIO, DiskError, "system's log"),
    ],
)
async def test_what_the_system_refuses_is_typed_and_an_append_leaves_the_file_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[DiskError], cure: str
):
    disk, path = FileDisk(InlineOffload()), tmp_path / "file"
    await disk.append(path, (b"1234",))
    real: Callable[..., int] = os.writev

    def half(descriptor: int, parts: list[memoryview]) -> int:
        if parts[0].nbytes > 2:
            return real(descriptor, [parts[0][:2]])
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "writev", half)
    with pytest.raises(kind, match=cure) as caught:
        await disk.append(path, (b"5678",))
    assert type(caught.value) is kind
    assert str(path) in str(caught.value)
    with pytest.raises(kind):
        await disk.replace(path, b"5678")
    monkeypatch.undo()
    assert await disk.read(path) == b"1234"
    assert _names(tmp_path) == ["file"]


async def test_many_parts_of_all_sizes_are_written_in_order(tmp_path: Path):
    disk, path = FileDisk(InlineOffload()), tmp_path / "file"
    parts = [bytes([n % 251]) * (n % 7) for n in range(3000)]
    assert await disk.append(path, parts) == 0
    assert await disk.append(path, (memoryview(b"end"),)) == sum(map(len, parts))
    assert await disk.read(path) == b"".join(parts) + b"end"
    assert await disk.read(path, offset=5, size=7) == b"".join(parts)[5:12]


async def test_a_file_that_is_shorter_than_was_written_is_damaged(tmp_path: Path):
    disk, path = FileDisk(InlineOffload()), tmp_path / "file"
    await disk.append(path, (b"1234",))
    with pytest.raises(DiskDamaged, match="is 4 bytes long, where 5"):
        await disk.truncate(path, 5)


async def test_a_private_folder_is_nobody_else_s(tmp_path: Path):
    disk = FileDisk(InlineOffload())
    await disk.make_folder(tmp_path / "a" / "b", private=True)
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700
    await disk.make_folder(tmp_path / "a" / "b", private=True)
    (tmp_path / "open").mkdir(mode=0o755)
    (tmp_path / "link").symlink_to(tmp_path / "a")
    with pytest.raises(DiskReadOnly, match="not this user's alone"):
        await disk.make_folder(tmp_path / "open", private=True)
    with pytest.raises(NotAFolder):
        await disk.make_folder(tmp_path / "link", private=True)


async def test_the_lock_of_a_process_ends_with_it(tmp_path: Path):
    disk, path = FileDisk(InlineOffload()), tmp_path / "lock"
    program = (
        f"import fcntl, sys; f = open({str(path)!r}, 'w'); fcntl.flock(f, 2); print(flush=True); sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:  # noqa: ASYNC220
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(DiskLocked, match="another process"):
            async with disk.lock(path):
                pass
        holder.kill()
    async with disk.lock(path):
        pass


async def test_the_lock_of_a_process_ends_with_it_whatever_it_has_forked(tmp_path: Path):
    path = tmp_path / "lock"
    program = f"""
import os, sys, time, trio
from pathlib import Path
from tinker_actors.ports import FileDisk, InlineOffload

async def main():
    disk = FileDisk(InlineOffload())
    async with disk.lock(Path({str(path)!r})):
        child = os.fork()
        if child == 0:
            print(os.getpid(), flush=True)  # it has let go of what is not its own
            os.close(1)
            sys.stdin.read()
            os._exit(0)
        sys.stdin.read()

trio.run(main)
"""
    disk = FileDisk(InlineOffload())
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:  # noqa: ASYNC220
        assert holder.stdout is not None
        child = int(holder.stdout.readline())
        assert await disk.locked(path), "the child has let go of its parent's lock"
        holder.kill()
        holder.wait()
        os.kill(child, 0)  # it is there still
        assert not await disk.locked(path)
        async with disk.lock(path):
            pass


async def test_who_looks_whether_it_is_locked_is_in_nobodys_way_and_makes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    disk, path = FileDisk(InlineOffload()), tmp_path / "lock"
    assert not await disk.locked(path)
    assert not path.exists()
    async with disk.lock(path):
        assert await disk.locked(path)

    real, tries = fcntl.flock, 0
    with path.open() as looking:
        real(looking, fcntl.LOCK_SH)  # as one who looks does, for a moment

        def until_it_was_seen(descriptor: int, how: int) -> None:
            nonlocal tries
            tries += 1
            if tries == 5:
                real(looking, fcntl.LOCK_UN)
            real(descriptor, how)

        monkeypatch.setattr(fcntl, "flock", until_it_was_seen)
        async with disk.lock(path):
            assert tries >= 5
        monkeypatch.setattr(fcntl, "flock", real)
        real(looking, fcntl.LOCK_SH)  # nor is anybody held up for ever by one who was stopped there
        with pytest.raises(DiskLocked):
            async with disk.lock(path):
                pass


async def test_a_lock_that_is_removed_while_it_is_taken_is_taken_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    disk, path = FileDisk(InlineOffload()), tmp_path / "lock"
    real, tries = fcntl.flock, 0

    def after_its_end(descriptor: int, how: int) -> None:
        nonlocal tries
        tries += 1
        if tries == 1:
            path.unlink()
        real(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", after_its_end)
    async with disk.lock(path):
        with pytest.raises(DiskLocked):
            async with disk.lock(path):
                pass


async def test_what_a_replace_left_that_was_cut_off_is_not_listed(tmp_path: Path):
    disk = FileDisk(InlineOffload())
    (tmp_path / ".file.new").write_bytes(b"half")
    assert await disk.names(tmp_path) == ()
    await disk.replace(tmp_path / "file", b"whole")
    assert _names(tmp_path) == ["file"]
    with pytest.raises(DiskMissing):
        await disk.names(tmp_path / "nothing")


async def test_a_runtime_takes_a_disk_and_nothing_else():
    with pytest.raises(InvalidInput, match="disk: is of type str, which is no disk"):
        async with open_runtime(base_url="https://server", api_key="tml-test", disk="/tmp"):  # type: ignore[arg-type]
            pass
