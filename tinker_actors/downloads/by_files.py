"""External weights: the files that the server names, one after another, and a folder made of them."""

from __future__ import annotations

import datetime
import os
import shutil
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Final

from tinker_actors.archives import safe_name
from tinker_actors.archives.folder import appear, check_free, on_disk, sync
from tinker_actors.archives.names import Names
from tinker_actors.downloads.job import Download, DownloadedCheckpoint, ask
from tinker_actors.errors import APIResponseError, ArchiveError
from tinker_actors.ports.time_of_day import time_of_day
from tinker_actors.types import TinkerPath
from tinker_actors.wire.endpoints.checkpoints import external_weights_urls

__all__ = ["by_files"]

_MOST_FILES: Final = 10_000
_SOON: Final = datetime.timedelta(minutes=5)


async def by_files(job: Download, source: Callable[[], Awaitable[TinkerPath]]) -> DownloadedCheckpoint:
    """Fetch them, from the external weights that ``source`` names each time before the server is asked for URLs.

    URLs that are good for less than five more minutes are asked for anew (WIRE 10.2).
    """
    urls, expires = await _urls(job, source)
    files: dict[str, Path] = {}
    total = 0
    for name in tuple(urls):

        async def where(name: str = name) -> str:
            nonlocal urls, expires
            urls, expires = await _urls(job, source)
            if name not in urls:
                raise APIResponseError(f"{name}: the server no longer names it", request=name)
            return urls[name]

        url = None if expires - time_of_day() < _SOON else urls.get(name)
        file = await job.fetcher.fetch(name, job.place.path / "parts", url, where)
        files[name] = file.path
        total += file.size
        if total > job.bounds.total_bytes:
            raise ArchiveError(f"the files of {job.path} have more than {job.bounds.total_bytes:,} bytes")
    await job.offload.run(partial(_arrange, job, files))
    return DownloadedCheckpoint(
        checkpoint_path=str(job.path), destination=job.target, files=tuple(files), total_bytes=total
    )


async def _urls(
    job: Download, source: Callable[[], Awaitable[TinkerPath]]
) -> tuple[dict[str, str], datetime.datetime]:
    """URLs by relative path, and until when they are good. Raises ArchiveError for paths that may not be created."""
    path = await source()
    answer = await ask(partial(external_weights_urls, job.api, path.run, path.checkpoint_id))
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
    return found, answer.expires


def _arrange(job: Download, files: dict[str, Path]) -> None:
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
