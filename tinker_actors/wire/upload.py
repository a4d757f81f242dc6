"""A request with files."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any, TypeVar

from tinker_actors.ports import Purpose
from tinker_actors.wire.api import JSON, Api, Headers
from tinker_actors.wire.files import Files
from tinker_actors.wire.multipart import open_multipart

__all__ = ["upload"]

T = TypeVar("T")


async def upload(
    api: Api,
    path: str,
    result_type: type[T],
    fields: Mapping[str, Any] | None = None,
    files: Files | None = None,
    *,
    rng: random.Random,
    method: str = "POST",
    purpose: Purpose = "rest",
    key: str | None = None,
    timeout: float | None = None,
    headers: Headers = (),
    attempt: int = 0,
) -> T:
    """``fields`` and ``files`` as multipart/form-data, which is never whole in memory; without files, as JSON.

    The reply is read as ``result_type``. A body whose files can't be read again is sent once: a refused credential or
    a redirect is an error then. Raises InvalidInput before anything is sent, or with nothing taken when a file
    changes meanwhile, and as ``Api.call`` does.
    """
    if not files:
        return await api.call(
            path,
            result_type,
            fields,
            method=method,
            purpose=purpose,
            key=key,
            timeout=timeout,
            headers=headers,
            attempt=attempt,
        )
    body = await open_multipart(fields, files, rng=rng)
    reply = await api.exchange(
        method,
        path,
        body,
        purpose=purpose,
        key=key,
        timeout=timeout,
        headers=(*headers, ("accept", JSON)),
        content_type=body.content_type,
        attempt=attempt,
    )
    return api.decode(reply, result_type)
