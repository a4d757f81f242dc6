"""What each field of a Config may be: one check for each, which gives the value in its one form."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

from tinker_actors.checks import flag, integer, text, texts
from tinker_actors.config.proxy import parse_proxy
from tinker_actors.config.recovery import parse_recovery
from tinker_actors.config.retry import parse_poll_backoff, parse_retry, seconds
from tinker_actors.config.secret import Pairs, Secret, parse_api_key, parse_secret
from tinker_actors.errors import CredentialError, InvalidInput
from tinker_actors.server_class import ServerClass

__all__ = ["CHECKS", "check"]

_LEVELS = {"debug": "debug", "info": "info", "warn": "warn", "warning": "warn", "error": "error"}


def check(field: str, value: Any) -> Any:
    """``value`` as the field ``field`` keeps it. Raises InvalidInput or CredentialError."""
    return CHECKS[field](field, value)


def _base_url(field: str, given: Any) -> str:
    cure = "Give one like https://host/path"
    url = text(field, given, cure)
    try:
        parts = urlsplit(url)
        named = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # a port that is no number, brackets that do not match
        raise InvalidInput(field, "is not a URL", cure) from None
    if parts.username or parts.password:
        raise InvalidInput(field, "holds a user name or password", "Give the key as api_key")
    if not named:
        raise InvalidInput(field, f"{url!r} is not an http or https URL", cure)
    if any(sign.isspace() or not sign.isprintable() for sign in url):
        raise InvalidInput(field, "holds blanks or control characters", cure)
    if not url.isascii():
        raise InvalidInput(field, "holds characters beyond ASCII", "Write a host as xn--..., a path with %XX")
    if any(not 0 < len(label) < 64 for label in (parts.hostname or "").removesuffix(".").split(".")):
        raise InvalidInput(field, f"{parts.hostname!r} is no host's name", cure)
    if parts.query or parts.fragment:
        raise InvalidInput(field, "holds a query or fragment", "Give default_query for what each request asks")
    return url.rstrip("/")


def _command(field: str, given: Any) -> Secret:
    if isinstance(given, Secret):
        given = given.reveal()
    if not isinstance(given, str) or not given.strip():
        raise CredentialError(field, "is no command", "Give a program and its arguments in one string")
    return Secret(given)


def _project(field: str, given: Any) -> str:
    project = text(field, given, "Give the project's id, or None").strip()
    if not project:
        raise InvalidInput(field, "is blank", "Give the project's id, or None")
    return project


def _names(field: str, given: Any) -> tuple[str, ...]:
    if not isinstance(given, tuple | list):
        raise InvalidInput(field, "is not a row of strings", "Give a tuple of strings")
    return tuple(
        dict.fromkeys([text(field, name, "Give strings", empty=True) for name in cast("list[object]", given)])
    )


def _loss_fns(field: str, given: Any) -> tuple[str, ...]:
    names = _names(field, given)
    return tuple([text(field, name, "Give the names of losses that the server has") for name in names])


def _tokenizers(field: str, given: Any) -> dict[str, str]:
    if isinstance(given, Mapping):
        items = cast("Mapping[Any, Any]", given).items()
        given = {name: str(path) if isinstance(path, Path) else path for name, path in items}
    paths = texts(field, given)
    for name, path in paths.items():
        text(f"{field}[{name!r}]", path, "Give a folder with a tokenizer.json")
    return paths


def _metadata(field: str, given: Any) -> dict[str, str]:
    return texts(field, given)


def _level(field: str, given: Any) -> str:
    level = _LEVELS.get(given.strip().lower()) if isinstance(given, str) else None
    if level is None:
        raise InvalidInput(field, "is no level of logging", "Give debug, info, warn or error")
    return level


def _pairs(field: str, given: Any) -> Pairs:
    """Header or query values: names without blanks around, values as text; those that are None are left out."""
    cure = "Give a dict of names and values"
    if isinstance(given, Pairs):
        return given
    items: Any = cast("Mapping[Any, Any]", given).items() if isinstance(given, Mapping) else given
    out: dict[str, str] = {}
    try:
        pairs = [(name, value) for name, value in items]
    except (TypeError, ValueError):
        raise InvalidInput(field, "is no row of pairs", cure) from None
    for name, value in pairs:
        known = text(f"{field}'s names", name, cure).strip()
        if not known or not known.isprintable():
            raise InvalidInput(f"{field}'s names", "are blank or hold control characters", cure)
        if isinstance(value, bool):
            out[known] = "true" if value else "false"
        elif isinstance(value, str | int | float):
            written = str(value)
            if any(sign in written for sign in "\r\n\0"):
                raise InvalidInput(f"{field}[{known!r}]", "holds a line break", "Give one line")
            out[known] = written
        elif value is not None:
            raise InvalidInput(f"{field}[{known!r}]", f"is of type {type(value).__name__}", "Give text or a number")
    return Pairs(out)


def _string_pairs(field: str, given: Any) -> Pairs:
    pairs = _pairs(field, given)
    if not isinstance(given, Pairs):
        items: Any = cast("Mapping[Any, Any]", given).items() if isinstance(given, Mapping) else given
        values = [value for _, value in items]
        if not all(isinstance(value, str) for value in values):
            raise InvalidInput(field, "holds values that are no strings", "Give pairs of strings")
    return pairs


def _transport(field: str, given: Any) -> object:
    if isinstance(given, str) or all(callable(getattr(given, name, None)) for name in ("send", "aclose")):
        return given
    problem = f"a {type(given).__name__} offers no send and aclose"
    raise InvalidInput(field, problem, "Give a Transport, or module:name of one")


def _server_class(field: str, given: Any) -> ServerClass:
    try:
        return ServerClass(given)
    except ValueError:
        cure = "Give dedup, ordered or none; None to have it found out"
        raise InvalidInput(field, f"{given!r:.60} is no class of servers", cure) from None


def _at_least(low: int, cure: str) -> Callable[[str, Any], int]:
    return lambda field, given: integer(field, given, cure, low=low)


def _maybe(checked: Callable[[str, Any], Any]) -> Callable[[str, Any], Any]:
    return lambda field, given: None if given is None else checked(field, given)


_ONE = _at_least(1, "Allow at least 1")

CHECKS: Mapping[str, Callable[[str, Any], Any]] = {
    "base_url": _base_url,
    "api_key": _maybe(lambda field, given: parse_api_key(given, field)),
    "credential_cmd": _maybe(_command),
    "cf_access_client_id": _maybe(lambda field, given: text(field, given, "Give the id of the service token")),
    "cf_access_client_secret": _maybe(parse_secret),
    "project_id": _maybe(_project),
    "tags": _names,
    "user_metadata": _metadata,
    "feature_gates": _names,
    "extra_loss_fns": _loss_fns,
    "tokenizers": _tokenizers,
    "timeout": seconds,
    "poll_timeout": seconds,
    "outage_bound": seconds,
    "start_bound": seconds,
    "heartbeat_interval": seconds,
    "max_retries": _maybe(_at_least(0, "Give 0 for no retries, or None for no bound by number")),
    "retry": parse_retry,
    "poll_backoff": parse_poll_backoff,
    "recovery": parse_recovery,
    "server_class": _maybe(_server_class),
    "max_pending": _ONE,
    "max_pending_bytes": _ONE,
    "pool_size": _maybe(_ONE),
    "pool_count": _maybe(_ONE),
    "default_headers": _pairs,
    "default_query": _pairs,
    "dump_headers": flag,
    "allow_plain_http": flag,
    "proxy": parse_proxy,
    "proxy_headers": _string_pairs,
    "http_client": _maybe(_transport),
    "telemetry_enabled": flag,
    "otel_propagate": flag,
    "log_level": _maybe(_level),
    "hf_token": _maybe(parse_secret),
    "hf_home": _maybe(lambda field, given: text(field, given, "Give a folder")),
    "hf_token_path": _maybe(lambda field, given: text(field, given, "Give a file")),
}
