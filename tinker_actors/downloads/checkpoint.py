"""A checkpoint as a folder: by its archive, or file by file where it is of external weights."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec
import trio

from tinker_actors.archives import ArchiveBounds, extract_archive, safe_name
from tinker_actors.archives.folder import appear, check_free, on_disk, sync
from tinker_actors.archives.names import Names
from tinker_actors.checks import flag
from tinker_actors.downloads.digests import FileDigest
from tinker_actors.downloads.fetch import DownloadProgress, Fetcher
from tinker_actors.downloads.partial import PartialFolder
from tinker_actors.errors import (
    APIConnectionError,
    APIResponseError,
    APIStatusError,
    ArchiveError,
    InvalidInput,
)
from tinker_actors.ports import Offload
from tinker_actors.types import TinkerPath
from tinker_actors.wire.api import Api
from tinker_actors.wire.endpoints.checkpoints import checkpoint_archive_url, external_weights_urls

__all__ = ["download_checkpoint", "DownloadedCheckpoint"]

T = TypeVar("T")

_TRIES: Final = 6
_BUILDING: Final = 30.0  # seconds between two questions for an archive that is being built (WIRE 10.1)
_MOST_FILES: Final = 10_000


class DownloadedCheckpoint(msgspec.Struct, frozen=True, kw_only=True):
    """A checkpoint on this machine: its folder, the files in it as relative paths, and the sum of their bytes."""

    checkpoint_path: str
    destination: Path
    files: tuple[str, ...]
    total_bytes: int


async def download_checkpoint(
    api: Api,
    path: str,
    output_dir: str | Path = ".",
    *,
    force: bool = False,
    progress: Callable[[DownloadProgress], object] | None = None,
    bounds: ArchiveBounds | None = None,
    sha256: str | None = None,
    plain_http: bool = False,
    offload: Offload,
    rng: random.Random,
) -> DownloadedCheckpoint:
    """The checkpoint ``path`` as the new folder ``output_dir``/NAME, NAME being the path with "/" as "_".

    It appears there once all of it has arrived and been checked; one that is there already is replaced only with
    ``force``, and only then. See ``ServiceClient.download_checkpoint`` for the rest.
    """
    parsed = TinkerPath.parse(path)
    flag("force", force)
    wanted = None if sha256 is None else _sha256(sha256)
    if wanted is not None and parsed.kind == "external_weights":
        raise InvalidInput("sha256", "is of an archive, and external weights have none", "Leave it out")
    bounds = _bounds(bounds)
    target = _target(parsed, output_dir)
    await offload.run(partial(_prepare, target, force=force))
    place = await offload.run(partial(PartialFolder.open, target))
    keep = True  # what is cancelled, or broken off by the network, can go on
    try:
        await offload.run(partial(check_free, target, force=force))  # what a killed process had taken away is back
        fetcher = Fetcher(
            api.transport,
            offload=offload,
            rng=rng,
            target=target,
            limit=bounds.total_bytes,
            plain_http=plain_http,
            progress=progress,
        )
        way = _by_files if parsed.kind == "external_weights" else _by_archive
        done = await way(_Download(api, parsed, place, target, fetcher, offload, bounds, wanted, force))
    except (ArchiveError, APIResponseError):
        keep = False
        raise
    else:
        keep = False
        return done
    finally:
        with trio.CancelScope(shield=True):
            await offload.run(partial(place.close, keep=keep))


def _bounds(given: Any) -> ArchiveBounds:
    if given is not None and not isinstance(given, ArchiveBounds):
        raise InvalidInput("bounds", f"is of type {type(given).__name__}", "Give ArchiveBounds(...)")
    return ArchiveBounds() if given is None else given


class _Download(msgspec.Struct, frozen=True):
    api: Api
    path: TinkerPath
    place: PartialFolder
    target: Path
    fetcher: Fetcher
    offload: Offload
    bounds: ArchiveBounds
    sha256: FileDigest | None
    force: bool


async def _by_archive(job: _Download) -> DownloadedCheckpoint:
    async def where() -> str:
        return (await _ask(partial(checkpoint_archive_url, job.api, job.path.run, job.path.checkpoint_id))).url

    archive = (await job.fetcher.fetch("archive", job.place.path / "parts", None, where)).path
    if job.sha256 is not None and not await job.offload.run(partial(job.sha256.matches, archive)):
        raise ArchiveError(f"the archive of {job.path} has another sha256 than the one that was given")
    extracted = await job.offload.run(
        lambda: extract_archive(
            archive, job.target, force=job.force, bounds=job.bounds, progress=lambda _: _check_cancelled()
        )
    )
    return DownloadedCheckpoint(
        checkpoint_path=str(job.path),
        destination=extracted.folder,
        files=extracted.files,
        total_bytes=extracted.total_bytes,
    )


async def _by_files(job: _Download) -> DownloadedCheckpoint:
    urls = await _urls(job)
    files: dict[str, Path] = {}
    total = 0
    for name, url in urls.items():

        async def where(name: str = name) -> str:
            found = await _urls(job)
            if name not in found:
                raise APIResponseError(f"{name}: the server no longer names it", request=name)
            return found[name]

        file = await job.fetcher.fetch(name, job.place.path / "parts", url, where)
        files[name] = file.path
        total += file.size
        if total > job.bounds.total_bytes:
            raise ArchiveError(f"the files of {job.path} have more than {job.bounds.total_bytes:,} bytes")
    await job.offload.run(partial(_arrange, job, files))
    return DownloadedCheckpoint(
        checkpoint_path=str(job.path), destination=job.target, files=tuple(urls), total_bytes=total
    )


async def _urls(job: _Download) -> dict[str, str]:
    """URLs by relative path. Raises ArchiveError for paths that may not be created."""
    answer = await _ask(partial(external_weights_urls, job.api, job.path.run, job.path.checkpoint_id))
    if not answer.urls:
        raise APIResponseError(f"the server names no file of {job.path}")
    if len(answer.urls) > min(_MOST_FILES, job.bounds.members):
        raise ArchiveError(f"{job.path} has more than {min(_MOST_FILES, job.bounds.members)} files")
    names = Names()
    found: dict[str, str] = {}
    for name, url in answer.urls.items():
        parts = safe_name(name)
        names.add(parts, folder=False)
        found["/".join(parts)] = url
    return found


def _arrange(job: _Download, files: dict[str, Path]) -> None:
    content = job.place.path / "content"
    with on_disk(job.target):
        if content.exists():  # of a try that ended right here
            shutil.rmtree(content)
        content.mkdir()
        folders = {content}
        for name, file in files.items():
            path = content.joinpath(*name.split("/"))
            path.parent.mkdir(parents=True, exist_ok=True)
            folders.update(parent for parent in path.parents if parent.is_relative_to(content))
            try:
                os.link(file, path)  # so that what fails from here on can be tried again
            except OSError:  # a file system without such links
                file.rename(path)
        for folder in folders:
            sync(folder)
    check_free(job.target, force=job.force)  # that took its time
    with on_disk(job.target):
        appear(content, job.target, job.place.old)


async def _ask(question: Callable[[], Awaitable[T]]) -> T:
    """The answer, asked for again while the server is busy, can't be reached, or is still building an archive."""
    for tried in range(_TRIES):
        try:
            return await question()
        except (APIConnectionError, APIStatusError) as error:
            status = error.status if isinstance(error, APIStatusError) else 503
            if tried == _TRIES - 1 or not (status >= 500 or status in (408, 429)):
                raise
            pause = _BUILDING if isinstance(error, APIStatusError) and status == 503 else 2.0**tried
            await trio.sleep(max(pause, getattr(error, "retry_after", None) or 0.0))
    raise AssertionError("unreachable")


def _target(path: TinkerPath, output_dir: str | Path) -> Path:
    given: Any = output_dir
    if not isinstance(given, (str, Path)) or "\0" in str(given):
        raise InvalidInput("output_dir", "is no path of a folder", "Give the folder to put the checkpoint's into")
    name = str(path).removeprefix("tinker://").replace("/", "_")
    try:
        (part,) = safe_name(name)
    except (ArchiveError, ValueError):
        raise InvalidInput("path", f"{path} makes no name of a folder", "Give the path of a checkpoint") from None
    return Path(output_dir).absolute() / part


def _prepare(target: Path, *, force: bool) -> None:
    folder = target.parent
    with on_disk(target):
        if folder.exists() and not folder.is_dir():
            raise InvalidInput("output_dir", f"{folder} is no folder", "Give one")
        folder.mkdir(parents=True, exist_ok=True)
    check_free(target, force=force)


def _sha256(text: str) -> FileDigest:
    given: Any = text
    if not isinstance(given, str) or len(given) != 64 or not set(given.lower()) <= set("0123456789abcdef"):
        raise InvalidInput("sha256", "is not 64 hexadecimal digits", "Give the digest of the archive")
    return FileDigest("sha256", given.lower())


def _check_cancelled() -> None:
    try:
        trio.from_thread.check_cancelled()
    except RuntimeError:  # not in a thread of trio's, but in a simulation
        return
