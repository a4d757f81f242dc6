"""The proxy through which requests go."""

from __future__ import annotations

import base64
from typing import Any, cast
from urllib.parse import unquote, urlsplit

import msgspec

from tinker_actors.checks import integer
from tinker_actors.config.secret import Pairs
from tinker_actors.errors import InvalidInput

__all__ = ["Proxy", "parse_proxy"]

_CURE = "Give http://host:port or https://user:password@host:port"
_PORTS = {"http": 80, "https": 443}


class Proxy(msgspec.Struct, frozen=True):
    """Where the proxy listens. ``headers`` are sent to it and to nobody else; a user name and password of the
    proxy's URL stand there, as Proxy-Authorization.
    """

    scheme: str
    host: str
    port: int
    headers: Pairs = Pairs()

    @property
    def url(self) -> str:
        """Without credentials."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


def parse_proxy(field: str, given: Any) -> Proxy | None:
    """A Proxy from a URL, from (scheme, host, port), or None. Raises InvalidInput, never with the password."""
    if given is None or isinstance(given, Proxy):
        return given
    if isinstance(given, tuple | list):
        parts = tuple(cast("tuple[Any, ...]", given))
        if len(parts) != 3:
            raise InvalidInput(field, f"has {len(parts)} parts, not scheme, host and port", _CURE)
        scheme, host, port = parts
        _check(field, scheme, host)
        return Proxy(scheme, host, integer(f"{field}'s port", port, "Ports go from 1 to 65535", low=1, high=65535))
    if not isinstance(given, str):
        raise InvalidInput(field, f"is of type {type(given).__name__}", _CURE)
    try:
        url = urlsplit(given.strip())
        port = url.port
    except ValueError:
        raise InvalidInput(field, "is no URL", _CURE) from None
    _check(field, url.scheme, url.hostname)
    if port == 0:
        raise InvalidInput(f"{field}'s port", "0 is out of range", "Ports go from 1 to 65535")
    headers: dict[str, str] = {}
    if url.username is not None or url.password is not None:
        login = f"{unquote(url.username or '')}:{unquote(url.password or '')}"
        headers["proxy-authorization"] = f"Basic {base64.b64encode(login.encode()).decode()}"
    return Proxy(url.scheme, url.hostname or "", port or _PORTS[url.scheme], Pairs(headers))


def _check(field: str, scheme: object, host: object) -> None:
    if scheme not in _PORTS:
        raise InvalidInput(field, "is neither an http nor an https proxy", _CURE)
    if not isinstance(host, str) or not host or not host.isprintable() or set(host) & set(" /@?#"):
        raise InvalidInput(field, "names no host", _CURE)
