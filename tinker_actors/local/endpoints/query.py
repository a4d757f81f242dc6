"""What stands behind the question mark: decoded to a struct, and the parts of it that several endpoints have."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Literal, TypeAlias, TypeVar

import msgspec

from tinker_actors.errors import DecodeError
from tinker_actors.types import Cursor

__all__ = ["AccessScope", "Page", "Scope", "ScopedPage", "decode_query", "part"]

T = TypeVar("T")

AccessScope: TypeAlias = Literal["owned", "accessible"]
_MOST = 1000


class Scope(msgspec.Struct, frozen=True, kw_only=True):
    """Whose: one's own, or also what others have published."""

    access_scope: AccessScope = "owned"


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """Which part of a listing: ``limit`` entries (at most 1000) from number ``offset`` on."""

    limit: Annotated[int, msgspec.Meta(ge=1, le=_MOST)] = 20
    offset: Annotated[int, msgspec.Meta(ge=0)] = 0


class ScopedPage(Page, frozen=True, kw_only=True):
    """Which part of a listing, and whose."""

    access_scope: AccessScope = "owned"


def decode_query(items: Iterable[tuple[str, str]], type_: type[T]) -> T:
    """The ``type_`` that the query's items say; empty values are as if left out (WIRE 2.7). Raises DecodeError."""
    given = {name: value for name, value in items if value != ""}
    try:
        return msgspec.convert(given, type_, strict=False)
    except msgspec.ValidationError as error:
        raise DecodeError(f"query: {error}") from error


def part(found: Sequence[T], page: Page) -> tuple[tuple[T, ...], Cursor]:
    """The entries of ``found`` that are on ``page``, and the cursor that says so."""
    cursor = Cursor(offset=page.offset, limit=page.limit, total_count=len(found))
    return tuple(found[page.offset : page.offset + page.limit]), cursor
