"""One request as an endpoint sees it, and what it may answer with besides a value."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Generic, TypeVar

import msgspec

from tinker_actors.local.owners import Owner

__all__ = ["Incoming", "Raw", "Streamed"]

T = TypeVar("T")


class Incoming(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """A checked request: whose it is, the decoded body (None without one), parameters of path and query, and Accept.

    ``headers`` are under lower-case names; ``base`` is the URL that endpoints' paths come after.
    The body of a GET is what its query says. ``owner`` goes first into whatever finds things by id
    (``local.owners``).
    """

    owner: Owner
    body: T
    path: Mapping[str, str]
    query: Mapping[str, str]
    accept: str
    headers: Mapping[str, str] = {}
    base: str = ""


class Streamed(msgspec.Struct, frozen=True):
    """An answer that leaves as server-sent events, each value when it is there."""

    values: AsyncGenerator[msgspec.Struct]


class Raw(msgspec.Struct, frozen=True):
    """An answer that is encoded already."""

    content: bytes
    media_type: str
    status: int = 200
    headers: Mapping[str, str] = {}
