"""Checkpoints: listed, published, kept for a time, deleted, and where their files are."""

from __future__ import annotations

import datetime
from email.utils import parsedate_to_datetime

from tinker_actors.codec.json import encode_json
from tinker_actors.errors import APIStatusError, NotFoundError
from tinker_actors.types import (
    CheckpointArchiveUrlResponse,
    CheckpointsListResponse,
    ExternalWeightsUrlsResponse,
    SetTtlRequest,
)
from tinker_actors.wire.api import Api
from tinker_actors.wire.headers import Headers, on_behalf_of
from tinker_actors.wire.urls import segment

__all__ = [
    "checkpoint_archive_url",
    "delete_checkpoint",
    "external_weights_urls",
    "list_checkpoints",
    "list_user_checkpoints",
    "publish_checkpoint",
    "set_checkpoint_ttl",
    "unpublish_checkpoint",
]

# Paths take a checkpoint's id as it is, with the slash between its kind and its name.


async def list_checkpoints(api: Api, run_id: str) -> CheckpointsListResponse:
    """GET /training_runs/{run}/checkpoints; at servers that don't know it (404), GET /models/{run}/checkpoints."""
    run = segment(run_id)
    behalf = on_behalf_of("RestClient.list_checkpoints")
    try:
        return await _get(api, f"/training_runs/{run}/checkpoints", behalf)
    except NotFoundError as error:
        missing = error
    try:
        return await _get(api, f"/models/{run}/checkpoints", behalf)
    except APIStatusError as error:
        if error.status in (404, 405):
            raise missing from None  # both are 404 for a run that there is not
        raise


async def list_user_checkpoints(api: Api, *, limit: int = 100, offset: int = 0) -> CheckpointsListResponse:
    """GET /checkpoints: all of the caller's, newest first."""
    return await api.call(
        "/checkpoints",
        CheckpointsListResponse,
        method="GET",
        purpose="rest",
        query={"limit": limit, "offset": offset},
        headers=on_behalf_of("RestClient.list_user_checkpoints"),
    )


async def delete_checkpoint(api: Api, run_id: str, checkpoint_id: str, *, key: str) -> None:
    """DELETE /training_runs/{run}/checkpoints/{checkpoint}."""
    await _change(api, "DELETE", _place(run_id, checkpoint_id), "delete_checkpoint", key=key)


async def publish_checkpoint(api: Api, run_id: str, checkpoint_id: str, *, key: str) -> None:
    """POST .../publish. ConflictError when it is public already."""
    await _change(api, "POST", f"{_place(run_id, checkpoint_id)}/publish", "publish_checkpoint", key=key)


async def unpublish_checkpoint(api: Api, run_id: str, checkpoint_id: str, *, key: str) -> None:
    """DELETE .../publish. ConflictError when it is not public."""
    await _change(api, "DELETE", f"{_place(run_id, checkpoint_id)}/publish", "unpublish_checkpoint", key=key)


async def set_checkpoint_ttl(api: Api, run_id: str, checkpoint_id: str, ttl_seconds: int | None, *, key: str) -> None:
    """PUT .../ttl: keep it for so many seconds from now, or for good (None)."""
    body = encode_json(SetTtlRequest(ttl_seconds=ttl_seconds))
    await _change(api, "PUT", f"{_place(run_id, checkpoint_id)}/ttl", "set_checkpoint_ttl", key=key, body=body)


async def external_weights_urls(api: Api, run_id: str, checkpoint_id: str) -> ExternalWeightsUrlsResponse:
    """GET .../external_weights_urls: where the files of external weights are."""
    return await api.call(
        f"{_place(run_id, checkpoint_id)}/external_weights_urls",
        ExternalWeightsUrlsResponse,
        method="GET",
        purpose="rest",
        headers=on_behalf_of("RestClient.get_external_weights_urls"),
    )


async def checkpoint_archive_url(api: Api, run_id: str, checkpoint_id: str) -> CheckpointArchiveUrlResponse:
    """GET .../archive (servers up to SDK 0.25): where the archive is.

    Servers say it by a redirect, which is not followed and whose Expires counts, or in JSON.
    """
    reply = await api.exchange(
        "GET",
        f"{_place(run_id, checkpoint_id)}/archive",
        purpose="rest",
        headers=(("accept", "application/gzip, application/json"),),
        also=302,
    )
    if reply.status == 302:
        url = reply.header("location")
        if not url:
            raise api.unreadable(reply, "a redirect that names no place")
        return CheckpointArchiveUrlResponse(url=url, expires=_until(reply.header("expires")))
    return api.decode(reply, CheckpointArchiveUrlResponse)


def _until(text: str | None) -> datetime.datetime | None:
    try:
        return None if text is None else parsedate_to_datetime(text)
    except ValueError:  # a server that says "0" or nonsense says nothing
        return None


def _place(run_id: str, checkpoint_id: str) -> str:
    return f"/training_runs/{segment(run_id)}/checkpoints/{segment(checkpoint_id, slashes=True)}"


async def _get(api: Api, path: str, headers: Headers) -> CheckpointsListResponse:
    return await api.call(path, CheckpointsListResponse, method="GET", purpose="rest", headers=headers)


async def _change(api: Api, method: str, path: str, name: str, *, key: str, body: bytes | None = None) -> None:
    await api.exchange(
        method,
        path,
        () if body is None else (body,),
        purpose="rest",
        key=key,
        headers=on_behalf_of(f"RestClient.{name}"),
    )
