"""One request as an endpoint sees it, and what it may answer with besides a value."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Generic, TypeVar

import msgspec

__all__ = ["Incoming", "Raw"]

T = TypeVar("T")


class Incoming(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """A checked request: the decoded body (None without one), parameters of path and query, and the Accept header."""

    body: T
    path: Mapping[str, str]
    query: Mapping[str, str]
    accept: str


class Raw(msgspec.Struct, frozen=True):
    """An answer that is encoded already."""

    content: bytes
    media_type: str
