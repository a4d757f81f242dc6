"""A checkpoint as a folder: by its archive, or file by file where it is of external weights."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import trio

from tinker_actors.archives import ArchiveBounds, extract_archive, safe_name
from tinker_actors.archives.folder import check_free, on_disk
from tinker_actors.checks import flag
from tinker_actors.downloads.by_files import by_files
from tinker_actors.downloads.digests import FileDigest
from tinker_actors.downloads.exported import Export, Exported
from tinker_actors.downloads.fetch import DownloadProgress, Fetcher
from tinker_actors.downloads.job import Download, DownloadedCheckpoint, ask
from tinker_actors.downloads.partial import PartialFolder
from tinker_actors.errors import APIResponseError, APIStatusError, ArchiveError, InvalidInput
from tinker_actors.ports import Offload
from tinker_actors.types import TinkerPath
from tinker_actors.wire.api import Api
from tinker_actors.wire.endpoints.checkpoints import checkpoint_archive_url

__all__ = ["check_way", "download_checkpoint", "DownloadWay"]

DownloadWay: TypeAlias = Literal["archive", "files"]

_NO_ARCHIVE: Final = frozenset((400, 404, 405, 422, 501))  # of servers that offer none, or none of a state


async def download_checkpoint(
    api: Api,
    path: str,
    output_dir: str | Path = ".",
    *,
    force: bool = False,
    progress: Callable[[DownloadProgress], object] | None = None,
    bounds: ArchiveBounds | None = None,
    sha256: str | None = None,
    way: DownloadWay | None = None,
    export: Export | None = None,
    plain_http: bool = False,
    offload: Offload,
    rng: random.Random,
) -> DownloadedCheckpoint:
    """The checkpoint ``path`` as the new folder ``output_dir``/NAME, NAME being the path with "/" as "_".

    It appears there once all of it has arrived and been checked; one that is there already is replaced only with
    ``force``, and only then. ``export`` makes external weights of a training checkpoint; without it there are none.
    See ``ServiceClient.download_checkpoint`` for the rest.
    """
    parsed = TinkerPath.parse(path)
    flag("force", force)
    way = check_way(way, parsed, exports=export is not None)
    wanted = None if sha256 is None else _sha256(sha256)
    if wanted is not None and way == "files":
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
        job = Download(api, parsed, place, target, fetcher, offload, bounds, rng, wanted, force)
        done = await _fetched(job, way, export)
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


async def _fetched(job: Download, way: DownloadWay | None, export: Export | None) -> DownloadedCheckpoint:
    if way == "files":
        return await _by_files(job, export)
    ask_for_url = partial(checkpoint_archive_url, job.api, job.path.run, job.path.checkpoint_id)

    async def where() -> str:
        return (await ask(ask_for_url)).url

    try:
        url = await where()
    except APIStatusError as error:
        offers_files = export is not None and job.path.kind == "weights" and job.sha256 is None
        if way == "archive" or not offers_files or error.status not in _NO_ARCHIVE:
            raise
    else:
        return await _by_archive(job, url, where)
    return await _by_files(job, export)


async def _by_archive(job: Download, url: str, where: Callable[[], Awaitable[str]]) -> DownloadedCheckpoint:
    archive = (await job.fetcher.fetch("archive", job.place.path / "parts", url, where)).path
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


async def _by_files(job: Download, export: Export | None) -> DownloadedCheckpoint:
    if job.path.kind == "external_weights":

        async def given() -> TinkerPath:
            await trio.lowlevel.checkpoint()
            return job.path

        return await by_files(job, given)
    assert export is not None, "check_way has seen to it"
    exported = Exported(job, export)
    try:
        done = await by_files(job, exported.path)
    except (ArchiveError, APIResponseError):
        await exported.delete()
        raise
    await exported.delete()
    return done


def check_way(way: Any, path: TinkerPath, *, exports: bool) -> DownloadWay | None:
    """The way to ``path``, None where the server decides. Raises InvalidInput for one that does not lead there."""
    if way not in (None, "archive", "files"):
        raise InvalidInput("way", f"is {way!r}", 'Give "archive", "files" or None')
    if path.kind == "external_weights":
        return "files" if way is None else way
    if way == "files" and path.kind == "sampler_weights":
        raise InvalidInput("way", "sampler weights come as an archive only", "Leave it out")
    if way == "files" and not exports:
        raise InvalidInput("way", "files of a state have to be made", "Use download_checkpoint of a client")
    return way


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
