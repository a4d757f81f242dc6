"""What an archive holds appears whole or not at all, and nothing of what it might do to the machine is done."""

from __future__ import annotations

import errno
import io
import os
import random
import stat
import tarfile
import tempfile
import threading
import time
import tracemalloc
import warnings
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from tests.archives.packing import entry, tar, zip_of
from tests.codec.damage import damaged, held_to_its_bounds
from tinker_actors.archives import ArchiveBounds, Extracted, extract_archive, safe_name
from tinker_actors.archives.read import members
from tinker_actors.errors import ArchiveError, DecodeError, InvalidInput

MEGABYTE = 1 << 20
TRIES = 4  # damaged archives for each sound one
FILES = {
    "adapter_config.json": b"{}",
    "adapter_model.safetensors": random.Random(1).randbytes(700_000),
    "optimizer/state.bin": b"\0" * 1000,
    "empty": b"",
}
FOLDERS = ("optimizer", "nothing in it")


def honest(kind: str) -> bytes:
    if kind == "zip":
        return zip_of([*((f"{name}/", b"") for name in FOLDERS), *FILES.items()])
    folders = [entry(name, kind=tarfile.DIRTYPE) for name in FOLDERS]
    return tar([*folders, *(entry(*file) for file in FILES.items())], packed=kind == "tar.gz")


def unpack(body: bytes, folder: Path, **options: Any) -> Extracted:
    with tempfile.NamedTemporaryFile() as file:
        file.write(body)
        file.flush()
        return extract_archive(file.name, folder, **options)


def contents(folder: Path) -> dict[str, bytes | None]:
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")
    }


def refused(body: bytes, folder: Path, words: str, **options: Any) -> None:
    """``body`` is refused with ``words``, and nothing is beside or below ``folder`` that was not there."""
    before = sorted(folder.parent.rglob("*"))
    with pytest.raises(ArchiveError, match=words) as caught:
        unpack(body, folder, **options)
    assert isinstance(caught.value, DecodeError)
    assert "was not unpacked" in str(caught.value)
    assert sorted(folder.parent.rglob("*")) == before


@pytest.mark.parametrize("kind", ["tar", "tar.gz", "zip"])
def test_an_honest_archive_appears_as_it_was(kind: str, tmp_path: Path):
    seen: list[int] = []
    done = unpack(honest(kind), tmp_path / "out", progress=seen.append)
    assert contents(tmp_path / "out") == FILES | dict.fromkeys(FOLDERS)
    assert done == Extracted(tmp_path / "out", tuple(FILES), sum(map(len, FILES.values())))
    assert seen == sorted(seen)
    assert seen[-1] == done.total_bytes
    assert len(seen) > len(FILES) - 1  # not only once for each file
    assert os.listdir(tmp_path) == ["out"]  # noqa: PTH208


def test_a_packed_folder_and_names_of_every_length_and_alphabet(tmp_path: Path):
    long = "/".join(["d" * 200] * 4)
    root = entry(".", kind=tarfile.DIRTYPE)
    for form in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        body = tar([root, entry("./a", b"1"), entry(long, b"2"), entry("žluťoučký/模型", b"3")], form=form)
        done = unpack(body, tmp_path / str(form))
        assert done.files == ("a", long, "žluťoučký/模型")
        assert (tmp_path / str(form) / long).read_bytes() == b"2"


@pytest.mark.parametrize("kind", ["tar", "tar.gz", "zip"])
def test_no_owner_mode_or_time_of_the_archives_is_kept(kind: str, tmp_path: Path):
    info, content = entry("run-me", b"#!")
    info.mode, info.mtime, info.uid = 0o6777, 1, 12345
    unpack(
        zip_of([("run-me", b"#!")], mode=stat.S_IFREG | 0o6777) if kind == "zip" else tar([(info, content)]),
        tmp_path / "o",
    )
    (tmp_path / "plain").touch()
    made, plain = (tmp_path / "o" / "run-me").stat(), (tmp_path / "plain").stat()
    assert (made.st_mode, made.st_uid) == (plain.st_mode, plain.st_uid)
    assert made.st_mtime > 1e9
    (tmp_path / "folder").mkdir()
    assert (tmp_path / "o").stat().st_mode == (tmp_path / "folder").stat().st_mode


NAMES = {
    "/etc/planted": "absolute",
    "//planted": "absolute",
    "C:/planted": "absolute",
    "\\planted": "absolute",
    "../planted": "leads out",
    "a/../../planted": "leads out",
    "a/..": "leads out",
    "..": "leads out",
    "a\\..\\planted": "backslash",
    "a//planted": "empty part",
    "a/./planted": "empty part",
    "a\nplanted": "control",
    "a\x1bplanted": "control",
    "n" * 256: "too long",
    "/".join(["long" * 10] * 30): "too long",
    "/".join(["a"] * 33): "more than 32 parts",
}


@pytest.mark.parametrize("name", NAMES, ids=lambda name: repr(name)[:30])
@pytest.mark.parametrize("kind", ["file", "folder", "zip"])
def test_a_name_that_leads_elsewhere_is_refused(kind: str, name: str, tmp_path: Path):
    first = ("fine", b"x")
    if kind == "zip":
        body = zip_of([first, (name, b"x")])
    else:
        body = tar([entry(*first), entry(name, kind=tarfile.DIRTYPE if kind == "folder" else tarfile.REGTYPE)])
    (tmp_path / "in").mkdir()
    refused(body, tmp_path / "in" / "out", NAMES[name])


def test_a_name_that_is_no_unicode_or_ends_early_is_refused(tmp_path: Path):
    body = bytearray(tar([entry("aXb", b"x")], form=tarfile.GNU_FORMAT))
    for sign, words in ((b"\xff", "no Unicode"), (b"\x80", "no Unicode")):
        info = tarfile.TarInfo.frombuf(bytes(body[:512]), "utf-8", "strict")
        info.name = "a" + sign.decode("utf-8", "surrogateescape") + "b"
        head = info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")
        refused(head + bytes(body[512:]), tmp_path / "out", words)
    # zipfile itself takes this for "safe"
    refused(zip_of([("safeX/../../planted", b"x")]).replace(b"safeX", b"safe\0"), tmp_path / "out", "control")


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (tarfile.SYMTYPE, "a link"),
        (tarfile.LNKTYPE, "a link"),
        (tarfile.CHRTYPE, "a device"),
        (tarfile.BLKTYPE, "a device"),
        (tarfile.FIFOTYPE, "pipe"),
        (b"Z", "neither"),
    ],
)
def test_only_files_and_folders_are_taken(kind: bytes, words: str, tmp_path: Path):
    for link in ("/etc/passwd", "fine", ".."):
        refused(tar([entry("fine", b"x"), entry("l", kind=kind, link=link)]), tmp_path / "out", words)
    # and what a link would be written through is not reached either
    refused(tar([entry("l", kind=kind, link="/tmp"), entry("l/planted", b"x")]), tmp_path / "out", words)


def test_a_link_in_a_zip_and_what_else_a_zip_can_be(tmp_path: Path):
    for mode, words in ((stat.S_IFLNK, "a link"), (stat.S_IFIFO, "no file"), (stat.S_IFDIR, "no file")):
        refused(zip_of([("l", b"/etc/passwd")], mode=mode | 0o777), tmp_path / "out", words)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for method in (zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2):
            refused(zip_of([("a", b"x" * 100)], method=method), tmp_path / "out", "not known")
    body = bytearray(zip_of([("a", b"x")]))
    at = bytes(body).index(b"PK\x01\x02")
    body[at + 8] |= 1
    refused(bytes(body), tmp_path / "out", "encrypted")


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("a", "a"), "there twice"),
        (("d/a", "./d/a"), "there twice"),
        (("d/", "d/"), "there twice"),
        (("a", "a/b"), "of a file and of a folder"),
        (("a/b", "a"), "of a file and of a folder"),
        (("a", "A"), "one on some systems"),
        (("D/a", "d/b"), "one on some systems"),
        (("é", "e\u0301"), "one on some systems"),
    ],
)
@pytest.mark.parametrize("kind", ["tar", "zip"])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_no_two_members_meet(kind: str, names: tuple[str, ...], words: str, tmp_path: Path):
    if kind == "zip":
        body = zip_of([(name, b"") for name in names])
    else:
        kinds = {True: tarfile.DIRTYPE, False: tarfile.REGTYPE}
        body = tar([entry(name.rstrip("/"), kind=kinds[name.endswith("/")]) for name in names])
    refused(body, tmp_path / "out", words)


def nothing(size: int) -> bytes:
    """A tar in gzip of one file of ``size`` zeros, whose bytes never are in memory at once."""
    packer = zlib.compressobj(9, wbits=31)
    info = tarfile.TarInfo("zeros")
    info.size = size
    out = [packer.compress(info.tobuf())]
    out += [packer.compress(bytes(MEGABYTE)) for _ in range(size // MEGABYTE)]
    return b"".join([*out, packer.compress(bytes(10240)), packer.flush()])


def zeros_zip(size: int) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("zeros", "w") as stream:
        for _ in range(size // MEGABYTE):
            stream.write(bytes(MEGABYTE))
    return out.getvalue()


def held(work: Callable[[], None]) -> int:
    """The most memory that ``work`` takes, in bytes."""
    work()  # what it imports is not counted
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("make", [nothing, zeros_zip])
def test_a_bomb_is_refused_before_it_goes_off(make: Callable[[int], bytes], tmp_path: Path):
    body = make(64 * MEGABYTE)
    assert len(body) < MEGABYTE // 8
    written: list[int] = []

    def goes_off(words: str, **bounds: int) -> None:
        options = {"bounds": ArchiveBounds(**bounds), "progress": written.append}
        assert held(lambda: refused(body, tmp_path / "out", words, **options)) < 4 * MEGABYTE
        assert not written  # its size gives it away

    goes_off("more than 100 times its size")
    goes_off("more than 1000000 bytes", ratio=10_000, total_bytes=1_000_000)
    done = unpack(body, tmp_path / "out", bounds=ArchiveBounds(ratio=10_000, total_bytes=65 * MEGABYTE))
    assert done.total_bytes == 64 * MEGABYTE


def test_a_bomb_that_lies_about_its_size_is_refused_while_it_is_written(tmp_path: Path):
    bounds = ArchiveBounds(ratio=10, small_bytes=0)
    # many small files, none of which is too large
    body = tar([entry(f"{n}", bytes(10_000)) for n in range(200)], packed=True)
    refused(body, tmp_path / "out", "10 times its size", bounds=bounds)
    # zeros behind the end of the tar
    packer = zlib.compressobj(9, wbits=31)
    pieces = [packer.compress(tar([entry("a", b"x")]))] + [packer.compress(bytes(MEGABYTE)) for _ in range(32)]
    body = b"".join([*pieces, packer.flush()])
    assert held(lambda: refused(body, tmp_path / "out", "times its size")) < 4 * MEGABYTE
    # a member of a zip that holds more than it says
    body = zeros_zip(MEGABYTE).replace(MEGABYTE.to_bytes(4, "little"), (1000).to_bytes(4, "little"))
    refused(body, tmp_path / "out", "no sound zip")
    # members of a zip that share their bytes
    body = zip_of([(f"{n}", bytes(100_000)) for n in range(100)])
    refused(body, tmp_path / "out", "10 times its size", bounds=bounds)


def test_headers_and_directories_are_bounded_as_well(tmp_path: Path):
    def long_header(size: int) -> bytes:
        info, content = entry("a", b"x")
        info.pax_headers = {"comment": "c" * size}
        return tar([(info, content)], packed=True)

    assert unpack(long_header(5000), tmp_path / "out").files == ("a",)
    body = long_header(16 * MEGABYTE)
    assert held(lambda: refused(body, tmp_path / "other", "bytes of headers")) < 4 * MEGABYTE
    chain = b"".join(entry("x", kind=tarfile.XHDTYPE)[0].tobuf() for _ in range(5000))
    refused(chain, tmp_path / "other", "bytes of headers")
    slow = bytearray(tar([entry("a")]))
    info = tarfile.TarInfo("digits")
    info.type, info.size = tarfile.XHDTYPE, 7168
    started = time.thread_time()
    unpack(info.tobuf() + b"1" * 7168 + bytes(slow), tmp_path / "digits")
    assert time.thread_time() - started < 2
    # a directory that says it has gigabytes
    body = bytearray(zip_of([("a", b"x")]))
    at = bytes(body).rindex(b"PK\x05\x06")
    body[at + 12 : at + 16] = (1 << 31).to_bytes(4, "little")
    refused(bytes(body), tmp_path / "other", "no sound zip|too large")
    refused(zip_of([("a", b"x")]) + b"z" * 200_000, tmp_path / "other", "no sound zip")


def test_members_are_counted(tmp_path: Path):
    for make in (
        lambda n: tar([entry(f"d{k}", kind=tarfile.DIRTYPE) for k in range(n)]),
        lambda n: zip_of([(f"{k}", b"") for k in range(n)]),
    ):
        unpack(make(5), tmp_path / "five", bounds=ArchiveBounds(members=5), force=True)
        refused(make(6), tmp_path / "six", "more than 5 members", bounds=ArchiveBounds(members=5))
    many = zip_of([(f"{k}", b"") for k in range(4_000)])
    assert held(lambda: refused(many, tmp_path / "out", "too large", bounds=ArchiveBounds(members=10))) < 8 * MEGABYTE


def small(kind: str, content: bytes = b"1" * 600) -> bytes:
    files = {"a": content, "d/b": b"2", "c" * 120: b""}
    if kind == "zip":
        return zip_of(files.items())
    return tar([entry(*file) for file in files.items()], packed=kind == "tar.gz")


def read(body: bytes, bounds: ArchiveBounds) -> None:
    """All of its members, as they would be written, but without a disk."""
    total = 0
    seen: set[tuple[str, ...]] = set()
    for member in members(io.BytesIO(body), bounds):
        assert safe_name("/".join(member.parts)) == member.parts
        assert member.parts not in seen
        seen.add(member.parts)
        size = 0
        while piece := member.read():
            size += len(piece)
        assert size == (0 if member.folder else member.size)
        total += size
    assert total <= bounds.total_bytes


@pytest.mark.parametrize("kind", ["tar", "tar.gz", "zip"])
def test_what_is_cut_off_or_followed_by_something_is_refused(kind: str, tmp_path: Path):
    body = small(kind)
    end = len(body.rstrip(b"\0")) + 512 if kind == "tar" else len(body)  # the padding behind its end is nothing
    for cut in range(end):
        with pytest.raises(ArchiveError):
            read(body[:cut], ArchiveBounds())
    refused(body[: end // 2], tmp_path / "out", "cut off|no sound")
    if kind != "zip":
        refused(body + b"x" * 600, tmp_path / "out", "behind its end|no sound archive")
    broken = bytearray(tar([entry("a", b"1"), entry("b", b"2")]))
    broken[1024 + 150] ^= 1  # tarfile takes a header with a wrong sum for the end
    refused(bytes(broken), tmp_path / "out", "its end is missing")


@pytest.mark.parametrize("kind", ["tar", "tar.gz", "zip"])
@given(st.integers(0, 2**32))
def test_a_damaged_archive_is_an_error_or_harmless(kind: str, seed: int):
    body = small(kind, random.Random(seed).randbytes(700))
    for bad in damaged(body, seed, TRIES):
        held_to_its_bounds(lambda bad: read(bad, ArchiveBounds(total_bytes=MEGABYTE)), bad, memory=4 * MEGABYTE)


def test_what_is_there_is_replaced_only_by_force_and_only_by_what_is_whole(tmp_path: Path):
    target = tmp_path / "out"
    target.mkdir()
    (target / "old").write_bytes(b"old")
    with pytest.raises(InvalidInput, match="force=True"):
        unpack(honest("tar"), target)
    refused(tar([entry("new", b"n"), entry("../x", b"n")]), target, "leads out", force=True)
    refused(honest("tar.gz")[:-9], target, "cut off|no sound", force=True)
    assert contents(target) == {"old": b"old"}
    unpack(honest("tar"), target, force=True)
    assert contents(target) == FILES | dict.fromkeys(FOLDERS)
    assert os.listdir(tmp_path) == ["out"]  # noqa: PTH208


def test_neither_a_file_nor_a_link_is_replaced_and_none_is_written_through(tmp_path: Path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    (tmp_path / "file").write_bytes(b"f")
    for name in ("link", "dangling", "file"):
        with pytest.raises(InvalidInput, match="is no folder"):
            unpack(honest("tar"), tmp_path / name, force=True)
    for bad in ("/", tmp_path / "elsewhere" / ".."):
        with pytest.raises(InvalidInput, match="names no new folder"):
            unpack(honest("tar"), bad, force=True)
    assert not list((tmp_path / "elsewhere").iterdir())
    with pytest.raises(InvalidInput, match=r"archive: .* can't be read"):
        extract_archive(tmp_path / "no such", tmp_path / "out")
    with pytest.raises(InvalidInput, match=r"folder: .*No such file"):
        unpack(honest("tar"), tmp_path / "no" / "out")
    with pytest.raises(InvalidInput, match=r"folder: .*Not a directory"):
        unpack(honest("tar"), tmp_path / "file" / "out")
    for bounds in ({"members": 0}, {"total_bytes": -1}, {"ratio": 1.5}, {"small_bytes": None}):
        with pytest.raises(InvalidInput, match=next(iter(bounds))):
            ArchiveBounds(**bounds)


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    (tmp_path / "out").mkdir()
    with pytest.raises(InvalidInput, match="No space left"):
        unpack(honest("tar"), tmp_path / "out", force=True)
    monkeypatch.undo()
    assert contents(tmp_path) == {"out": None}


def test_where_the_new_one_can_not_take_its_place_the_old_one_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    target = tmp_path / "out"
    unpack(tar([entry("old", b"o")]), target)
    rename = Path.rename

    def fails(self: Path, to: Path) -> Path:
        if self.name == "content":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return rename(self, to)

    monkeypatch.setattr(Path, "rename", fails)
    with pytest.raises(InvalidInput, match="Input/output error"):
        unpack(honest("tar"), target, force=True)
    monkeypatch.undo()
    assert contents(tmp_path) == {"out": None, "out/old": b"o"}


def test_a_folder_that_appears_meanwhile_is_not_replaced(tmp_path: Path):
    target = tmp_path / "out"

    def appear(_: int) -> None:
        if not target.exists():
            target.mkdir()
            (target / "theirs").touch()

    with pytest.raises(InvalidInput, match="force=True"):
        unpack(honest("tar"), target, progress=appear)
    assert contents(tmp_path) == {"out": None, "out/theirs": b""}


async def test_a_caller_that_is_cancelled_leaves_nothing(tmp_path: Path):
    begun, go = trio.Event(), threading.Event()

    def progress(_: int) -> None:
        trio.from_thread.run_sync(begun.set)
        go.wait(10)
        trio.from_thread.check_cancelled()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(
            lambda: trio.to_thread.run_sync(lambda: unpack(honest("tar"), tmp_path / "out", progress=progress))
        )
        await begun.wait()
        nursery.cancel_scope.cancel()
        go.set()
    assert not contents(tmp_path)
