"""Checkpoints as files: where they are, and the files themselves at URLs that need no key."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from email.utils import format_datetime
from functools import partial
from typing import Final, TypeVar
from urllib.parse import quote

import trio

from tinker_actors.codec.json import encode_json
from tinker_actors.errors import DecodeError
from tinker_actors.local.checkpoint_files import archive, checkpoint_files
from tinker_actors.local.endpoints.checkpoints import checkpoint_path
from tinker_actors.local.endpoints.incoming import Incoming, Raw
from tinker_actors.local.endpoints.ranges import ranged
from tinker_actors.local.engine.peft import CONFIG_FILE, WEIGHTS_FILE
from tinker_actors.local.refusals import gone, invalid, not_found
from tinker_actors.local.service import LocalService
from tinker_actors.local.signatures import Signature
from tinker_actors.local.storage import CheckpointRecord, DamagedCheckpoint
from tinker_actors.types import CheckpointArchiveUrlResponse, ExternalWeightsUrlsResponse

__all__ = ["archive_url", "download", "external_weights_urls"]

T = TypeVar("T")
_ARCHIVE: Final = "checkpoint.tar.gz"
_BYTES: Final = "application/octet-stream"
_GZIP: Final = "application/gzip"


async def archive_url(service: LocalService, call: Incoming[None]) -> Raw:
    """Where the checkpoint's archive is: by a redirect, and in JSON for who does not follow it (WIRE 10.1)."""
    await trio.lowlevel.checkpoint()
    record, expires = _readable(service, call), service.signatures.expiry()
    url = _url(service, call, record, _ARCHIVE, expires)
    body = encode_json(CheckpointArchiveUrlResponse(url=url, expires=expires))
    headers = {"location": url, "expires": format_datetime(expires, usegmt=True)}
    return Raw(body, "application/json", 302, headers)


async def external_weights_urls(service: LocalService, call: Incoming[None]) -> ExternalWeightsUrlsResponse:
    """Where the files of external weights are."""
    await trio.lowlevel.checkpoint()
    record, expires = _readable(service, call), service.signatures.expiry()
    if record.kind != "external_weights":
        raise invalid("checkpoint_id", f"{record.path} holds no external weights", "Use save_weights_external first")
    urls = {name: _url(service, call, record, name, expires) for name in (WEIGHTS_FILE, CONFIG_FILE)}
    return ExternalWeightsUrlsResponse(urls=urls, expires=expires)


async def download(service: LocalService, call: Incoming[Signature]) -> Raw:
    """One file of a checkpoint, or its archive, for whoever has its URL.

    Its ETag and Repr-Digest are those of its bytes; with Range it is sent from a byte on, with If-Range only as long
    as it is still that file.
    """
    path, name = checkpoint_path(call), call.path["file"]
    service.signatures.check(_signed(path, name), call.body)
    record = service.catalog.whosever(path)
    if record is None:
        raise not_found(f"there is no checkpoint {path} any more")
    work: Callable[[], bytes | None]
    if name == _ARCHIVE:
        work = partial(archive, service.catalog, record)
    else:
        work = lambda: checkpoint_files(service.catalog, record).get(name)  # noqa: E731
    try:
        content = await service.offload.run(work)
    except (DamagedCheckpoint, DecodeError) as error:
        raise gone(str(error)) from error
    assert content is not None, f"{name} was signed"
    disposition = {"content-disposition": f'attachment; filename="{name}"'}
    file = Raw(content, _GZIP if name == _ARCHIVE else _BYTES, 200, disposition)
    return await service.offload.run(partial(ranged, file, dict(call.headers)))


def _readable(service: LocalService, call: Incoming[T]) -> CheckpointRecord:
    path = checkpoint_path(call)
    record = service.catalog.readable(call.owner, path)
    if record is None:
        raise not_found(f"checkpoint_id: there is no checkpoint {path}")
    return record


def _url(service: LocalService, call: Incoming[T], record: CheckpointRecord, name: str, expires: datetime) -> str:
    signature = service.signatures.sign(_signed(record.path, name), expires)
    place = f"{quote(record.run_id)}/{record.kind}/{quote(record.name)}/{name}"
    return f"{call.base}/local/download/{place}?{signature.query}"


def _signed(path: str, name: str) -> str:
    return f"{path}\n{name}"
