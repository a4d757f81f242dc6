"""URLs below a base, their queries merged; and whom a credential may be sent to."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from typing import TypeAlias
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from tinker_actors.errors import InvalidInput

__all__ = ["Query", "QueryValue", "build_url", "check_confidential", "is_loopback", "merged_query", "segment"]

QueryValue: TypeAlias = "str | int | float | bool | Sequence[str] | None"
Query: TypeAlias = Mapping[str, QueryValue]


def build_url(base: str, path: str, *, default: Query | None = None, query: Query | None = None) -> str:
    """``path`` below ``base``, whose own path is kept, with one slash between them.

    Where a key is in several queries, ``query`` counts before that of ``path``, and this one before ``default``.
    """
    way, _, inner = path.partition("?")
    url = f"{base.rstrip('/')}/{way.lstrip('/')}"
    if not (inner or query or default):
        return url
    text = merged_query(default or {}, dict(parse_qsl(inner, keep_blank_values=True)), query or {})
    return f"{url}?{text}" if text else url


def merged_query(*queries: Query) -> str:
    """The queries as one, later ones first. Lists are joined by commas, booleans are ``true`` and ``false``.

    None takes out what an earlier query says; empty values are left out, as servers expect it. Raises InvalidInput
    for a key or value that is of no such kind.
    """
    merged: dict[str, str | None] = {}
    for each in queries:
        for name, value in each.items():
            if not isinstance(name, str) or not name.strip():  # pyright: ignore[reportUnnecessaryIsInstance]
                raise InvalidInput("query", f"the key {name!r} is not a name", "Give strings that are not empty")
            merged[name.strip()] = _text(name, value)
    return urlencode({name: value for name, value in merged.items() if value}, quote_via=quote, safe=",:/")


def segment(name: str, *, slashes: bool = False) -> str:
    """``name`` as one segment of a path; with ``slashes`` as several, none of which leads upwards."""
    if not name or any(part in (".", "..", "") for part in (name.split("/") if slashes else [name])):
        raise InvalidInput("id", f"{name!r} can't be part of a path", "Give the id as the server gave it")
    return quote(name, safe=":/" if slashes else ":")


def check_confidential(base_url: str, *, allow_plain_http: bool) -> None:
    """InvalidInput when a key would cross the network unencrypted without leave."""
    parts = urlsplit(base_url)
    if parts.scheme == "http" and not allow_plain_http and not is_loopback(parts.hostname or ""):
        raise InvalidInput(
            "base_url",
            f"http://{parts.netloc.rpartition('@')[2]} would carry the key unencrypted to another host",
            "Use https, or set allow_plain_http=True in a network that you trust",
        )


def is_loopback(host: str) -> bool:
    """Whether ``host`` is this machine."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _text(name: str, value: QueryValue) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return f"{value}"
    if isinstance(value, Sequence) and all(isinstance(item, str) for item in value):  # pyright: ignore[reportUnnecessaryIsInstance]
        return ",".join(value)
    raise InvalidInput("query", f"the value of {name!r} is of type {type(value).__name__}", "Give text or a number")
