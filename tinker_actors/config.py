"""Configuration of a client: option > environment > default, checked when it is made."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import cast, final
from urllib.parse import urlsplit

import msgspec

from tinker_actors.checks import flag, integer, number, text, texts
from tinker_actors.errors import CredentialError, InvalidInput

__all__ = ["DEFAULT_BASE_URL", "Config", "Secret", "parse_api_key"]

DEFAULT_BASE_URL = "https://tinker.thinkingmachines.dev/services/tinker-prod"


@final
class Secret:
    """A credential. Printing, formatting or pickling it never shows it; ``reveal`` gives it to the wire."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The credential itself."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(...)"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._value == other._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __reduce__(self) -> str:
        raise TypeError("a Secret is not pickled: give the key to the other process through its environment")


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """What a client needs to know to talk to a server.

    ``timeout`` bounds one attempt and ``poll_timeout`` one poll, ``outage_bound`` the time without any usable
    answer after which everything that waits gets one error, ``start_bound`` the same for the first contact with
    a server; all in seconds. ``max_pending`` and
    ``max_pending_bytes`` bound what one model may have accepted and not finished.

    ``default_headers`` and ``default_query`` go with every request, those of a request counting before them.
    ``allow_plain_http`` lets the key cross the network unencrypted to a host that is not this machine.
    """

    base_url: str
    api_key: Secret
    timeout: float = 60.0
    poll_timeout: float = 45.0
    outage_bound: float = 300.0
    start_bound: float = 20.0
    heartbeat_interval: float = 10.0
    max_pending: int = 1024
    max_pending_bytes: int = 1_000_000_000
    tags: tuple[str, ...] = ()
    user_metadata: Mapping[str, str] = {}
    default_headers: Mapping[str, str] = {}
    default_query: Mapping[str, str] = {}
    allow_plain_http: bool = False

    def __post_init__(self) -> None:
        keep = msgspec.structs.force_setattr
        keep(self, "base_url", _base_url(self.base_url))
        if not isinstance(self.api_key, Secret):  # pyright: ignore[reportUnnecessaryIsInstance]  # a str would show
            keep(self, "api_key", parse_api_key(self.api_key))
        for name in ("timeout", "poll_timeout", "outage_bound", "start_bound", "heartbeat_interval"):
            keep(self, name, _positive(name, getattr(self, name)))
        for name in ("max_pending", "max_pending_bytes"):
            keep(self, name, integer(name, getattr(self, name), "Allow at least 1", low=1))
        keep(self, "tags", _tags(self.tags))
        keep(self, "user_metadata", texts("user_metadata", self.user_metadata))
        keep(self, "default_headers", texts("default_headers", self.default_headers))
        keep(self, "default_query", texts("default_query", self.default_query))
        flag("allow_plain_http", self.allow_plain_http)

    @classmethod
    def load(
        cls,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        environ: Mapping[str, str] | None = None,
        timeout: float = 60.0,
        outage_bound: float = 300.0,
        tags: tuple[str, ...] | None = None,
        user_metadata: Mapping[str, str] | None = None,
        default_headers: Mapping[str, str] | None = None,
        default_query: Mapping[str, str] | None = None,
        allow_plain_http: bool = False,
    ) -> Config:
        """Options first, then TINKER_BASE_URL, TINKER_API_KEY and TINKER_TAGS, then defaults.

        Raises CredentialError for a missing or malformed key and InvalidInput for anything else.
        """
        env = os.environ if environ is None else environ
        names = tags if tags is not None else tuple(t for t in env.get("TINKER_TAGS", "").split(",") if t)
        return cls(
            base_url=base_url or env.get("TINKER_BASE_URL") or DEFAULT_BASE_URL,
            api_key=parse_api_key(api_key if api_key is not None else env.get("TINKER_API_KEY")),
            timeout=timeout,
            outage_bound=outage_bound,
            tags=names,
            user_metadata=user_metadata or {},
            default_headers=default_headers or {},
            default_query=default_query or {},
            allow_plain_http=allow_plain_http,
        )


def _base_url(given: object) -> str:
    cure = "Give one like https://host/path"
    url = text("base_url", given, cure)
    try:
        parts = urlsplit(url)
        named = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # a port that is no number, brackets that do not match
        raise InvalidInput("base_url", "is not a URL", cure) from None
    if not named:
        raise InvalidInput("base_url", f"{url!r} is not an http or https URL", cure)
    if any(sign.isspace() or not sign.isprintable() for sign in url):
        raise InvalidInput("base_url", "holds blanks or control characters", cure)
    if parts.username or parts.password:
        raise InvalidInput("base_url", "holds a user name or password", "Give the key as api_key")
    if parts.query or parts.fragment:
        raise InvalidInput("base_url", "holds a query or fragment", "Give scheme, host and path only")
    return url.rstrip("/")


def parse_api_key(given: object) -> Secret:
    """``given`` if it can be an API key; CredentialError, which never shows it, if not."""
    cure = "Set TINKER_API_KEY or pass api_key=; keys start with 'tml-'"
    if given is None or given == "":
        raise CredentialError("api_key", "is missing", cure)
    if not isinstance(given, str):
        raise CredentialError("api_key", f"is of type {type(given).__name__}, not a string", cure)
    if not given.startswith(("tml-", "eyJ")):
        raise CredentialError("api_key", "does not start with 'tml-'", cure)
    if not given.isascii() or not given.isprintable() or " " in given:
        raise CredentialError("api_key", "holds characters that can't stand in a header", cure)
    return Secret(given)


def _positive(field: str, value: object) -> float:
    cure = "Give a number above 0"
    seconds = number(field, value, cure)
    if not (seconds > 0):
        raise InvalidInput(field, f"{seconds} is not a positive number of seconds", cure)
    return seconds


def _tags(given: object) -> tuple[str, ...]:
    if not isinstance(given, tuple | list):
        raise InvalidInput("tags", "is not a row of strings", "Give a tuple of strings")
    return tuple([text("tags", tag, "Give strings", empty=True) for tag in cast("list[object]", given)])
