"""A downloaded checkpoint is whole or not there, whatever the network, the store and the disk do."""

from __future__ import annotations

import base64
import errno
import gzip
import hashlib
import os
import random
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from tests.archives.packing import entry, tar
from tests.downloads.store import EXTERNAL, KEY, TARGET, WEIGHTS, Fault, fetch, open_store
from tinker_actors.archives import ArchiveBounds
from tinker_actors.downloads import DownloadProgress
from tinker_actors.errors import (
    APIResponseError,
    APIStatusError,
    ArchiveError,
    DownloadError,
    InvalidInput,
    NotFoundError,
)

FILES = {
    "adapter_config.json": b"{}",
    "adapter_model.safetensors": random.Random(1).randbytes(3_000_000),
    "more/empty": b"",
}
ARCHIVE = tar([entry(*file) for file in FILES.items()], packed=True)
OTHER = tar([entry("new", b"new")], packed=True)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def listed(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits before it tries again does so at once; what a test waits for is not touched."""

    async def at_once(seconds: float) -> None:
        await trio.lowlevel.checkpoint()

    for module in ("fetch", "checkpoint"):
        monkeypatch.setattr(f"tinker_actors.downloads.{module}.trio.sleep", at_once)


@pytest.mark.parametrize("as_json", [False, True])
async def test_an_archive_becomes_a_folder_named_like_its_path(as_json: bool, tmp_path: Path):
    seen: list[DownloadProgress] = []
    async with open_store() as store:
        store.files["archive"], store.as_json = ARCHIVE, as_json
        done = await fetch(store, tmp_path / "new" / "folder", progress=seen.append)
    assert done.destination == tmp_path / "new" / "folder" / TARGET
    assert contents(done.destination) == FILES
    assert (done.checkpoint_path, done.files) == (WEIGHTS, tuple(FILES))
    assert done.total_bytes == sum(map(len, FILES.values()))
    assert listed(tmp_path / "new" / "folder") == [TARGET]
    assert [now.received for now in seen] == sorted(now.received for now in seen)
    assert (seen[0].received, seen[-1].received, seen[-1].total) == (0, len(ARCHIVE), len(ARCHIVE))
    assert done.destination.stat().st_mode == (tmp_path / "new").stat().st_mode


async def test_external_weights_come_file_by_file(tmp_path: Path):
    seen: list[DownloadProgress] = []
    async with open_store() as store:
        store.files = dict(FILES)
        done = await fetch(store, tmp_path, EXTERNAL, progress=seen.append)
    assert contents(done.destination) == FILES
    assert done.destination.name == "run:train:0_external_weights_mine"
    assert done.total_bytes == sum(map(len, FILES.values()))
    assert {now.file for now in seen} == set(FILES)
    assert listed(tmp_path) == [done.destination.name]
    assert all(path.stat().st_nlink == 1 for path in done.destination.rglob("*") if path.is_file())


@pytest.mark.parametrize("path", [WEIGHTS, EXTERNAL])
async def test_no_credential_goes_to_where_files_are_kept(path: str, tmp_path: Path):
    async with open_store() as store:
        store.files = {"archive": ARCHIVE} if path == WEIGHTS else dict(FILES)
        store.faults = [Fault(redirect="/archive" if path == WEIGHTS else "/more/empty")]
        await fetch(store, tmp_path, path)
    assert store.asked
    for _, headers in store.asked:
        assert KEY not in str(headers)
        assert not {"authorization", "x-api-key", "cookie"} & set(headers)


@pytest.mark.parametrize("path", [WEIGHTS, EXTERNAL])
async def test_what_breaks_off_goes_on_where_it_was(path: str, tmp_path: Path):
    content = ARCHIVE if path == WEIGHTS else FILES["adapter_model.safetensors"]
    async with open_store() as store:
        store.files = {"archive" if path == WEIGHTS else "adapter_model.safetensors": content}
        store.faults = [Fault(cut=1_500_000), Fault(status=503), Fault(cut=700_000), Fault(cut=0)]
        done = await fetch(store, tmp_path, path)
    assert content in (*contents(done.destination).values(), ARCHIVE)
    starts = [None, "bytes=1500000-", "bytes=1500000-", "bytes=2200000-", "bytes=2200000-"]
    assert store.ranges_asked() == starts
    # each time at a URL of its own
    assert len({url for url, _ in store.asked}) == 5


async def test_the_next_call_goes_on_and_looks_whether_it_is_still_that_version(tmp_path: Path):
    async with open_store() as store:
        store.files["archive"] = ARCHIVE
        store.faults, store.always = [Fault(cut=1_500_000)], Fault(cut=0)
        with pytest.raises(DownloadError, match=f"1,500,000 bytes of {len(ARCHIVE):,} are there") as caught:
            await fetch(store, tmp_path)
        assert (caught.value.received, caught.value.total) == (1_500_000, len(ARCHIVE))
        assert "signature" not in str(caught.value)
        assert not (tmp_path / TARGET).exists()
        store.always = None
        done = await fetch(store, tmp_path)
        assert contents(done.destination) == FILES
        assert store.ranges_asked()[-1] == "bytes=1500000-"

        # another version has the same name now
        store.faults, store.always = [Fault(cut=1_500_000)], Fault(cut=0)
        with pytest.raises(DownloadError):
            await fetch(store, tmp_path, force=True)
        assert contents(done.destination) == FILES
        store.files["archive"], store.version, store.always = OTHER, '"v2"', None
        assert contents((await fetch(store, tmp_path, force=True)).destination) == {"new": b"new"}
        assert listed(tmp_path) == [TARGET]


async def test_a_whole_file_of_an_earlier_call_is_asked_for_its_last_byte_alone(tmp_path: Path):
    async with open_store() as store:
        store.files = dict(FILES) | {"last": b"1234"}
        store.faults = [Fault(), Fault(), Fault(), *[Fault(status=500)] * 6]
        with pytest.raises(DownloadError, match="last could not be downloaded"):
            await fetch(store, tmp_path, EXTERNAL)
        store.asked.clear()
        assert contents((await fetch(store, tmp_path, EXTERNAL)).destination) == FILES | {"last": b"1234"}
    assert store.ranges_asked() == ["bytes=1-", "bytes=2999999-", None, None]


@pytest.mark.parametrize("ranges", [False, True])
async def test_a_store_without_ranges_or_versions_sends_all_again(ranges: bool, tmp_path: Path):
    async with open_store() as store:
        store.files["archive"], store.ranges = ARCHIVE, ranges
        store.version = None if ranges else '"v1"'
        store.faults = [Fault(cut=1_500_000), Fault(cut=1_000_000)]
        assert contents((await fetch(store, tmp_path)).destination) == FILES
        # without a version, a part could be one of another file
        assert any(store.ranges_asked()) is not ranges
        # and one that always ends at the same place is given up
        store.always = Fault(cut=1_500_000)
        with pytest.raises(DownloadError):
            await fetch(store, tmp_path, force=True)
    assert contents(tmp_path / TARGET) == FILES


@pytest.mark.parametrize(
    "fault",
    [
        Fault(cut=0),
        Fault(cut=1_000_000),
        Fault(length=len(ARCHIVE) + 10),
        Fault(status=500),
        Fault(status=429, headers={"Retry-After": "1"}),
        Fault(status=403),
        Fault(status=410),
    ],
)
async def test_a_fault_that_passes_changes_nothing(fault: Fault, tmp_path: Path):
    async with open_store() as store:
        store.files["archive"], store.faults = ARCHIVE, [fault]
        assert contents((await fetch(store, tmp_path)).destination) == FILES
        assert len(store.asked) >= 2


async def test_a_part_that_says_it_is_whole_and_is_not_is_completed(tmp_path: Path):
    async with open_store() as store:
        store.files["archive"] = ARCHIVE
        store.faults = [Fault(cut=1_500_000), Fault(length=1000)]
        assert contents((await fetch(store, tmp_path)).destination) == FILES
    assert store.ranges_asked() == [None, "bytes=1500000-", "bytes=1501000-"]


@pytest.mark.parametrize("start", [0, 5, 1_499_999, 1_500_001])
async def test_another_part_than_was_asked_for_is_not_put_in_its_place(start: int, tmp_path: Path):
    async with open_store() as store:
        store.files["archive"] = ARCHIVE
        store.faults = [Fault(cut=1_500_000), Fault(start=start)]
        assert contents((await fetch(store, tmp_path)).destination) == FILES
    assert store.ranges_asked() == [None, "bytes=1500000-", None]


def digests() -> dict[str, dict[str, str]]:
    def b64(name: str) -> str:
        return base64.b64encode(hashlib.new(name, ARCHIVE).digest()).decode()

    return {
        "repr": {"Repr-Digest": f"unknown=:YQ==:, sha-256=:{b64('sha256')}:"},
        "sha512": {"Repr-Digest": f"sha-512=:{b64('sha512')}:, sha-256=:{base64.b64encode(bytes(32)).decode()}:"},
        "old": {"Digest": f"SHA-256={b64('sha256')}"},
        "content": {"Content-Digest": f"sha-256=:{b64('sha256')}:"},
        "md5": {"Content-MD5": b64("md5")},
        "amazon": {"x-amz-checksum-sha256": b64("sha256")},
        "google": {"x-goog-hash": f"crc32c=n03x6A==,md5={b64('md5')}"},
    }


@pytest.mark.parametrize("headers", digests().values(), ids=digests())
async def test_bytes_that_are_not_those_of_the_digest_are_asked_for_anew(headers: dict[str, str], tmp_path: Path):
    async with open_store() as store:
        store.files["archive"], store.digest = ARCHIVE, headers
        store.faults = [Fault(alter=2_000_000)]
        assert contents((await fetch(store, tmp_path)).destination) == FILES
        assert store.ranges_asked() == [None, None]
        # of one that broke off, the digest of its first part counts
        store.faults = [Fault(cut=1_500_000), Fault(alter=2_000_000)]
        assert contents((await fetch(store, tmp_path, force=True)).destination) == FILES
        assert store.ranges_asked()[2:] == [None, "bytes=1500000-", None]
        store.always = Fault(alter=2_000_000)
        with pytest.raises(DownloadError, match="not those of the digest"):
            await fetch(store, tmp_path, force=True)
    assert contents(tmp_path / TARGET) == FILES
    assert listed(tmp_path) == [TARGET]


async def test_the_users_own_digest_counts(tmp_path: Path):
    right = hashlib.sha256(ARCHIVE).hexdigest()
    async with open_store() as store:
        store.files["archive"] = ARCHIVE
        with pytest.raises(ArchiveError, match="another sha256"):
            await fetch(store, tmp_path, sha256="0" * 64)
        assert not contents(tmp_path)
        await fetch(store, tmp_path, sha256=right.upper())
        for bad in ("", "xyz", right[1:], 5):
            with pytest.raises(InvalidInput, match="sha256"):
                await fetch(store, tmp_path, sha256=bad, force=True)
        with pytest.raises(InvalidInput, match="external weights have none"):
            await fetch(store, tmp_path, EXTERNAL, sha256=right)


async def test_what_is_there_is_replaced_only_by_force_and_only_by_what_is_whole(tmp_path: Path):
    async with open_store() as store:
        store.files["archive"] = ARCHIVE
        old = (await fetch(store, tmp_path)).destination
        asked = len(store.questions)
        with pytest.raises(InvalidInput, match="force=True"):
            await fetch(store, tmp_path)
        assert len(store.questions) == asked  # nothing was asked for
        for bad, error in (
            (ARCHIVE[:-9], ArchiveError),
            (b"no archive", ArchiveError),
            (tar([entry("fine", b"x"), entry("../x", b"x")]), ArchiveError),
            (tar([entry("fine", b"x"), entry("/x", b"x")]), ArchiveError),
            (tar([entry("fine", b"x"), entry("l", kind=tarfile.SYMTYPE, link="/etc/passwd")]), ArchiveError),
            (tar([entry("a", b"x"), entry("a", b"y")]), ArchiveError),
        ):
            store.files["archive"] = bad
            with pytest.raises(error):
                await fetch(store, tmp_path, force=True)
            assert contents(tmp_path) == {f"{TARGET}/{name}": content for name, content in FILES.items()}
        store.files["archive"] = OTHER
        assert contents((await fetch(store, tmp_path, force=True)).destination) == {"new": b"new"}
    assert old == tmp_path / TARGET


async def test_a_bomb_and_a_flood_are_refused(tmp_path: Path):
    async with open_store() as store:
        store.files["archive"] = tar([entry("zeros", bytes(64 << 20))], packed=True)
        with pytest.raises(ArchiveError, match="more than 100 times its size"):
            await fetch(store, tmp_path)
        info = tarfile.TarInfo("ten gigabytes of zeros")
        info.size = 10 << 30
        store.files["archive"] = gzip.compress(info.tobuf() + bytes(1 << 20))
        with pytest.raises(ArchiveError, match="more than 100 times its size"):
            await fetch(store, tmp_path)
        store.files["archive"] = ARCHIVE
        small = ArchiveBounds(total_bytes=1_000_000)
        with pytest.raises(APIResponseError, match="a file of more than 1,000,000 bytes"):
            await fetch(store, tmp_path, bounds=small)
        store.files = {"a": bytes(600_000), "b": bytes(600_000)}
        with pytest.raises(ArchiveError, match="have more than 1,000,000 bytes"):
            await fetch(store, tmp_path, EXTERNAL, bounds=small)
    assert not listed(tmp_path)


async def test_a_flood_of_unknown_length_is_refused(tmp_path: Path):
    async with open_store() as store:
        store.files["archive"], store.always = ARCHIVE, Fault(chunked=True)
        assert contents((await fetch(store, tmp_path)).destination) == FILES
        with pytest.raises(APIResponseError, match="a file of more than 1,000,000 bytes"):
            await fetch(store, tmp_path, force=True, bounds=ArchiveBounds(total_bytes=1_000_000))
    assert listed(tmp_path) == [TARGET]


async def test_a_weak_tag_does_not_say_that_bytes_are_the_same(tmp_path: Path):
    async with open_store() as store:
        store.files["archive"], store.version = ARCHIVE, 'W/"v1"'
        store.faults = [Fault(cut=1_500_000)]
        assert contents((await fetch(store, tmp_path)).destination) == FILES
        # but a date does, where there is no tag
        store.version, store.dated = None, "Sun, 06 Nov 1994 08:49:37 GMT"
        store.faults = [Fault(cut=1_500_000)]
        await fetch(store, tmp_path, force=True)
    assert store.ranges_asked() == [None, None, None, "bytes=1500000-"]


async def test_a_packed_file_is_refused(tmp_path: Path):
    async with open_store() as store:
        store.files["archive"], store.digest = ARCHIVE, {"Content-Encoding": "gzip"}
        with pytest.raises(APIResponseError, match="packed"):
            await fetch(store, tmp_path)
    assert not listed(tmp_path)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["../x"], "leads out"),
        (["/etc/x"], "absolute"),
        (["a\\b"], "backslash"),
        (["a", "./a"], "there twice"),
        (["a", "a/b"], "of a file and of a folder"),
        (["A", "a"], "one on some systems"),
        (["a\0b"], "control"),
    ],
)
async def test_a_name_that_leads_elsewhere_is_refused_before_anything_is_fetched(
    names: list[str], words: str, tmp_path: Path
):
    async with open_store() as store:
        store.urls = {name: store.url("x") for name in names}
        with pytest.raises(ArchiveError, match=words):
            await fetch(store, tmp_path, EXTERNAL)
        assert not store.asked
    assert not listed(tmp_path)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("file:///etc/passwd", "a file: URL"),
        ("ftp://host/x", "a ftp: URL"),
        ("http://", "not one of http or https"),
        ("nonsense", "no URL"),
        ("http://[bad/x", "no URL"),
        ("https://user:word@host/x", "not one of http"),
        ("http://elsewhere.example/x", "plain http"),
    ],
)
async def test_a_place_that_may_not_be_asked_is_not(url: str, words: str, tmp_path: Path):
    async with open_store() as store:
        store.urls = {"x": url}
        with pytest.raises(APIResponseError, match=words):
            await fetch(store, tmp_path, EXTERNAL)
        store.urls = None
        store.files["x"] = b"x"
        store.always = Fault(redirect=url)
        if url != "nonsense":  # a relative one
            with pytest.raises(APIResponseError):
                await fetch(store, tmp_path, EXTERNAL)
        store.always = Fault(redirect="/x")
        with pytest.raises(APIResponseError, match="more than 5 redirects"):
            await fetch(store, tmp_path, EXTERNAL)
    assert not listed(tmp_path)


async def test_an_archive_that_is_being_built_is_waited_for(tmp_path: Path):
    async with open_store() as store:
        store.files["archive"] = ARCHIVE
        store.answers = [(503, {}, {"detail": "building"})] * 5
        assert contents((await fetch(store, tmp_path)).destination) == FILES
        assert len(store.questions) == 6
        store.answers = [(503, {}, {"detail": "building"})] * 6
        with pytest.raises(APIStatusError, match="building"):
            await fetch(store, tmp_path, force=True)
    assert contents(tmp_path / TARGET) == FILES


async def test_what_is_not_there_is_told(tmp_path: Path):
    async with open_store() as store:
        store.answers = [(404, {}, {"detail": "no such checkpoint"})]
        with pytest.raises(NotFoundError, match="no such checkpoint"):
            await fetch(store, tmp_path)
        with pytest.raises(DownloadError, match="HTTP 404"):
            await fetch(store, tmp_path)
        assert len(store.asked) == 2
        store.urls = {}
        with pytest.raises(APIResponseError, match="names no file"):
            await fetch(store, tmp_path, EXTERNAL)
    assert not listed(tmp_path)


async def test_a_stalled_download_is_given_up_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tinker_actors.downloads.fetch._STALL", 0.3)
    async with open_store() as store:
        store.files["archive"], store.faults = ARCHIVE, [Fault(cut=1_500_000, stall=True)]
        assert contents((await fetch(store, tmp_path)).destination) == FILES
    assert store.ranges_asked() == [None, "bytes=1500000-"]


async def test_a_folder_that_can_not_be_made_is_told_before_anything_is_asked(tmp_path: Path):
    (tmp_path / "file").write_bytes(b"f")
    (tmp_path / TARGET).write_bytes(b"f")
    async with open_store() as store:
        for folder, words in (
            (tmp_path / "file", "is no folder"),
            (tmp_path / "file" / "below", "Not a directory|is no folder"),
            (tmp_path, "is there and is no folder"),
            ("/proc/none", "can't be written"),
            ("a\0b", "is no path"),
            (5, "is no path"),
        ):
            with pytest.raises(InvalidInput, match=words):
                await fetch(store, folder, force=True)  # pyright: ignore[reportArgumentType]
        for path in ("run/weights/x", "tinker://", "tinker://run/other/x", "tinker://../weights/x\0", 5):
            with pytest.raises(InvalidInput, match="path"):
                await fetch(store, tmp_path, path)  # pyright: ignore[reportArgumentType]
        assert not store.questions
    assert (tmp_path / "file").read_bytes() == (tmp_path / TARGET).read_bytes() == b"f"


async def test_a_disk_without_room_is_told_before_it_is_filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    async with open_store() as store:
        store.files["archive"] = ARCHIVE
        old = (await fetch(store, tmp_path)).destination
        monkeypatch.setattr(
            "tinker_actors.downloads.growing.shutil.disk_usage", lambda path: type("Usage", (), {"free": 1000})
        )
        with pytest.raises(InvalidInput, match=f"1,000 bytes are free where {len(ARCHIVE):,} are missing"):
            await fetch(store, tmp_path, force=True)
    assert contents(old) == FILES
    assert listed(tmp_path) == [TARGET]


@pytest.mark.parametrize("path", [WEIGHTS, EXTERNAL])
async def test_a_disk_that_fills_up_leaves_what_was_there(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    async with open_store() as store:
        store.files = {"archive": ARCHIVE} if path == WEIGHTS else dict(FILES)
        old = (await fetch(store, tmp_path, path)).destination
        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(InvalidInput, match="No space left"):
            await fetch(store, tmp_path, path, force=True)
        assert contents(old) == FILES
        monkeypatch.undo()
        await fetch(store, tmp_path, path, force=True)
    assert contents(old) == FILES
    assert listed(tmp_path) == [old.name]


async def test_where_the_new_one_can_not_take_its_place_the_old_one_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    rename = Path.rename

    def fails(self: Path, to: Path) -> Path:
        if self.name == "content":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return rename(self, to)

    async with open_store() as store:
        store.files = dict(FILES)
        old = (await fetch(store, tmp_path, EXTERNAL)).destination
        store.files = {"new": b"new"}
        monkeypatch.setattr(Path, "rename", fails)
        with pytest.raises(InvalidInput, match="Input/output error"):
            await fetch(store, tmp_path, EXTERNAL, force=True)
        monkeypatch.undo()
        assert contents(old) == FILES
        store.asked.clear()
        await fetch(store, tmp_path, EXTERNAL, force=True)
        assert contents(old) == {"new": b"new"}
        assert store.ranges_asked() == ["bytes=2-"]


@pytest.mark.parametrize("force", [False, True])
async def test_what_a_killed_process_was_replacing_is_put_back(force: bool, tmp_path: Path):
    async with open_store() as store:
        store.files = dict(FILES)
        target = (await fetch(store, tmp_path, EXTERNAL)).destination
        place = tmp_path / f".{target.name}.partial"
        place.mkdir()
        target.rename(place / "old")  # killed here
        store.urls = {"../x": store.url("x")}
        with pytest.raises(ArchiveError if force else InvalidInput):
            await fetch(store, tmp_path, EXTERNAL, force=force)
    assert contents(target) == FILES
    assert listed(tmp_path) == [target.name]


async def test_a_folder_that_appears_meanwhile_is_not_replaced(tmp_path: Path):
    def appear(now: DownloadProgress) -> None:
        (tmp_path / "run:train:0_external_weights_mine").mkdir(exist_ok=True)

    async with open_store() as store:
        store.files = dict(FILES)
        with pytest.raises(InvalidInput, match="force=True"):
            await fetch(store, tmp_path, EXTERNAL, progress=appear)
        assert not contents(tmp_path / "run:train:0_external_weights_mine")


async def test_two_downloads_of_one_folder_do_not_mix(tmp_path: Path):
    errors: list[InvalidInput] = []

    async with open_store() as store:
        store.files["archive"] = ARCHIVE

        async def second() -> None:
            with pytest.raises(InvalidInput, match="is being downloaded already") as caught:
                await fetch(store, tmp_path)
            errors.append(caught.value)

        async with trio.open_nursery() as nursery:
            begun = False

            def progress(now: DownloadProgress) -> None:
                nonlocal begun
                if not begun:
                    begun = True
                    nursery.start_soon(second)

            await fetch(store, tmp_path, progress=progress, offload=Slow(errors))
    assert len(errors) == 1
    assert contents(tmp_path / TARGET) == FILES


class Slow:
    """Unpacks only once ``done`` has something in it."""

    def __init__(self, done: list[Any]) -> None:
        self._done = done

    async def run(self, work: Callable[[], Any], *, cost: float = 0.0) -> Any:
        if "_by_archive" in getattr(work, "__qualname__", ""):
            with trio.fail_after(20):
                while not self._done:
                    await trio.lowlevel.checkpoint()
        return await trio.to_thread.run_sync(work)


async def test_who_is_cancelled_leaves_what_has_arrived_for_the_next_time(tmp_path: Path):
    async with open_store() as store:
        store.files["archive"], store.faults = ARCHIVE, [Fault(cut=1_500_000, stall=True)]
        with trio.CancelScope() as scope:

            def progress(now: DownloadProgress) -> None:
                if now.received > 1_000_000:
                    scope.cancel()

            await fetch(store, tmp_path, progress=progress)
        assert scope.cancelled_caught
        assert not (tmp_path / TARGET).exists()
        assert contents((await fetch(store, tmp_path)).destination) == FILES
    (again,) = store.ranges_asked()[1:]
    assert again is not None
    assert int(again.removeprefix("bytes=").rstrip("-")) > 1_000_000
    assert listed(tmp_path) == [TARGET]


async def test_what_a_progress_function_raises_ends_the_download(tmp_path: Path):
    def progress(now: DownloadProgress) -> None:
        if now.received:
            raise RuntimeError("enough")

    async with open_store() as store:
        store.files["archive"] = ARCHIVE
        with pytest.raises(RuntimeError, match="enough"):
            await fetch(store, tmp_path, progress=progress)
    assert not (tmp_path / TARGET).exists()
