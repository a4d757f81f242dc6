"""Where a reply that names another place leads, and what may go there."""

from __future__ import annotations

from urllib.parse import quote, urljoin, urlsplit

import msgspec

from tinker_actors.ports import Request
from tinker_actors.wire.headers import without_secrets

__all__ = ["REDIRECTS", "origin", "redirected", "same_place"]

REDIRECTS = frozenset((301, 302, 303, 307, 308))
_SAME_METHOD = frozenset((307, 308))
_IN_URLS = "%:/?#[]@!$&'()*+,;="


def redirected(request: Request, status: int, location: str | None, *, timeout: float) -> Request | str:
    """The request that follows ``request``, or in words why none may.

    The same host gets what the first one got. Another host, another port and a way down from https to http get no
    credential and nothing else of the caller's, and no body. A POST is repeated only where the status says so: one
    that turned into a GET would submit nothing.
    """
    if not location:
        return "a redirect that names no place"
    try:
        # what can't stand in a URL is written as servers mean it
        url = quote(urljoin(request.url, location).partition("#")[0], safe=_IN_URLS)
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return "a redirect to what is no URL"
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0 or parts.username or parts.password:
        return "a redirect to what is no plain http or https URL"
    reads = request.method in ("GET", "HEAD")
    if not reads and status == 303:
        return "a redirect that asks for another request instead of this one"
    if not reads and status not in _SAME_METHOD:
        return "a redirect that would drop what was sent; use the URL that it leads to as base_url"
    if request.stream is not None and not request.stream.again:
        return "a redirect of what can't be sent twice; use the URL that it leads to as base_url"
    headers = request.headers
    if not same_place(request.url, url):
        if not reads:
            return "a redirect of what was sent to another host; use the URL that it leads to as base_url"
        headers = without_secrets(headers)
    return msgspec.structs.replace(request, url=url, headers=headers, timeout=timeout)


def origin(url: str) -> tuple[str, str | None, int | None]:
    """Scheme, host and port, the usual ones spelled out."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def same_place(old: str, new: str) -> bool:
    """Whether ``new`` is at the host and port of ``old``, or on the usual way from http to https there."""
    before, after = origin(old), origin(new)
    if before == after:
        return True
    # the usual way up: the same host under its usual ports, now encrypted
    return before[1] == after[1] and (before[0], before[2]) == ("http", 80) and (after[0], after[2]) == ("https", 443)
