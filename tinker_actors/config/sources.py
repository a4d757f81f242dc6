"""Where the values of a Config come from, and the name of the place in each error."""

from __future__ import annotations

import difflib
import json
import logging
import os
import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

from tinker_actors.config.fields import CHECKS, check
from tinker_actors.errors import CredentialError, InvalidInput

__all__ = ["VARIABLES", "WITHOUT_EFFECT", "Sources"]

_TRUE = ("1", "true", "yes", "on")
_FALSE = ("0", "false", "no", "off")
_SECRETS = ("api_key", "credential_cmd", "cf_access_client_secret", "proxy_headers", "default_headers", "hf_token")
_LARGEST_FILE = 1 << 20  # bytes
_PARITY: Mapping[str, Mapping[str, Any]] = {
    "python": {"timeout": 60.0, "max_retries": 10},
    "beam": {"timeout": 120.0, "max_retries": 2},
}
_log = logging.getLogger("tinker_actors.config")
_SPELLINGS = {"python": "python", "py": "python", "python_sdk": "python", "beam": "beam", "elixir": "beam"}


class Sources:
    """The four places, asked in order."""

    def __init__(
        self,
        options: Mapping[str, Any],
        app: Mapping[str, Any] | None,
        file: str | Path | None,
        environ: Mapping[str, str],
    ) -> None:
        self._options = options
        self._app = app or {}
        self._environ = environ
        self._path = None if file is None else Path(file)
        self._text = ""
        self._file: Mapping[str, Any] = {}
        if self._path is not None:
            self._file = self._read(self._path)
        for variable, why in WITHOUT_EFFECT.items():
            if environ.get(variable, "").strip().lower() not in ("", *_FALSE):
                _log.info("%s has no effect here: %s", variable, why)
        known = (*CHECKS, "parity")
        places = ((options, _of_option), (self._app, _of_app), (self._file, self._line))
        for names, source in places:
            for name in names:
                if name not in known:
                    raise _unknown(str(name), source(str(name)), known)

    def values(self) -> dict[str, Any]:
        """Each field that is given anywhere, checked. Raises with the name of the place."""
        out: dict[str, Any] = {}
        for field in CHECKS:
            found = self._find(field)
            if found is None:
                continue
            value, source = found
            try:
                out[field] = check(field, value)
            except CredentialError as error:
                if field == "api_key" and self._find("credential_cmd") is not None:
                    continue  # the command is there for that
                raise _named(error, source) from None
            except InvalidInput as error:
                raise _named(error, source) from None
        return out

    def parity(self, option: str | None) -> Mapping[str, Any]:
        """The defaults that another client has."""
        found = (option, "option parity") if option is not None else self._find("parity")
        if found is None:
            return {}
        name, source = found
        known = _SPELLINGS.get(name.strip().lower()) if isinstance(name, str) else None
        if known is None:
            raise _named(InvalidInput("parity", f"{name!r} is no client known here", "Give python or beam"), source)
        return _PARITY[known]

    def _find(self, field: str) -> tuple[Any, str] | None:
        if self._options.get(field) is not None:
            return self._options[field], _of_option(field)
        if self._app.get(field) is not None:
            return self._app[field], _of_app(field)
        if self._file.get(field) is not None:
            return self._file[field], self._line(field)
        for variable, parse in VARIABLES.get(field, ()):
            written = self._environ.get(variable, "").strip()
            if written:
                source = f"variable {variable}"
                try:
                    return parse(written), source
                except ValueError as error:
                    raise _named(InvalidInput(field, str(error), _CURES[parse]), source) from None
        return None

    def _read(self, path: Path) -> Mapping[str, Any]:
        cure = "Give a TOML file of the configuration's fields"
        try:
            with path.open("rb") as stream:
                mode = os.fstat(stream.fileno()).st_mode
                raw = stream.read(_LARGEST_FILE + 1)
            if len(raw) > _LARGEST_FILE:
                raise InvalidInput("file", f"{path} holds more than {_LARGEST_FILE} bytes", cure)
            self._text = raw.decode()
            values = tomllib.loads(self._text)
        except OSError as error:
            raise InvalidInput("file", f"{path} can't be read: {error.strerror}", cure) from None
        except UnicodeDecodeError:
            raise InvalidInput("file", f"{path} is no text", cure) from None
        except tomllib.TOMLDecodeError as error:
            raise InvalidInput("file", f"{path} is no TOML: {error}", cure) from None
        secret = next((name for name in _SECRETS if name in values), None)
        if secret is not None and os.name == "posix" and mode & 0o077:
            problem = f"stands in a file that others may read (mode {mode & 0o777:o})"
            raise _named(CredentialError(secret, problem, f"chmod 600 {path}"), self._line(secret))
        return values

    def _line(self, field: str) -> str:
        pattern = re.compile(rf"\s*(?:\[\s*)?[\"']?{re.escape(field)}[\"']?\s*[=\].]")
        for number, line in enumerate(self._text.splitlines(), 1):
            if pattern.match(line):
                return f"{self._path}, line {number}"
        return str(self._path)


def _of_option(field: str) -> str:
    return f"option {field}"


def _of_app(field: str) -> str:
    return f"application's setting {field}"


def _named(error: InvalidInput, source: str) -> InvalidInput:
    error.source = source
    return error


def _unknown(name: str, source: str, known: tuple[str, ...]) -> InvalidInput:
    near = difflib.get_close_matches(name, known, n=1)
    cure = f"Did you mean {near[0]}?" if near else f"There are {', '.join(sorted(known))}"
    return _named(InvalidInput(name, "is no field of the configuration", cure), source)


def _text(written: str) -> str:
    return written


def _flag(written: str) -> bool:
    if written.lower() in _TRUE:
        return True
    if written.lower() in _FALSE:
        return False
    raise ValueError(f"{written!r} is neither true nor false")


def _list(written: str) -> tuple[str, ...]:
    return tuple([part.strip() for part in written.split(",") if part.strip()])


def _count(written: str) -> int:
    if not written.isascii() or not written.isdigit() or len(written) > 9:
        raise ValueError("is no whole number above 0")
    return int(written)


def _object(written: str) -> dict[str, Any]:
    value = _json(written)
    if not isinstance(value, dict):
        raise ValueError("is no JSON object")  # noqa: TRY004  # one kind of error for all of these
    return cast("dict[str, Any]", value)


def _array(written: str) -> list[Any]:
    value = _json(written)
    pairs: list[Any] = cast("list[Any]", value) if isinstance(value, list) else [None]
    if not all(isinstance(pair, list) and len(cast("list[Any]", pair)) == 2 for pair in pairs):
        raise ValueError("is no JSON array of pairs")
    return pairs


def _json(written: str) -> Any:
    try:
        return json.loads(written)
    except (ValueError, RecursionError):
        raise ValueError("is no JSON") from None


def _cache(written: str) -> str:
    return str(Path(written) / "huggingface")


_CURES: Mapping[Callable[[str], Any], str] = {
    _flag: f"Give one of {', '.join((*_TRUE, *_FALSE))}",
    _count: "Give a whole number above 0",
    _object: 'Write it like {"name": "value"}',
    _array: 'Write it like [["name", "value"]]',
}

VARIABLES: Mapping[str, tuple[tuple[str, Callable[[str], Any]], ...]] = {
    "api_key": (("TINKER_API_KEY", _text),),
    "credential_cmd": (("TINKER_CREDENTIAL_CMD", _text),),
    "base_url": (("TINKER_BASE_URL", _text),),
    "project_id": (("TINKER_PROJECT_ID", _text),),
    "tags": (("TINKER_TAGS", _list),),
    "feature_gates": (("TINKER_FEATURE_GATES", _list),),
    "telemetry_enabled": (("TINKER_TELEMETRY", _flag),),
    "log_level": (("TINKER_LOG", _text),),
    "cf_access_client_id": (("CLOUDFLARE_ACCESS_CLIENT_ID", _text),),
    "cf_access_client_secret": (("CLOUDFLARE_ACCESS_CLIENT_SECRET", _text),),
    "dump_headers": (("TINKEX_DUMP_HEADERS", _flag),),
    "poll_backoff": (("TINKEX_POLL_BACKOFF", _text),),
    "parity": (("TINKEX_PARITY", _text),),
    "pool_size": (("TINKEX_POOL_SIZE", _count),),
    "pool_count": (("TINKEX_POOL_COUNT", _count),),
    "proxy": (("TINKEX_PROXY", _text),),
    "proxy_headers": (("TINKEX_PROXY_HEADERS", _array),),
    "default_headers": (("TINKEX_DEFAULT_HEADERS", _object),),
    "default_query": (("TINKEX_DEFAULT_QUERY", _object),),
    "http_client": (("TINKEX_HTTP_CLIENT", _text),),
    "otel_propagate": (("TINKEX_OTEL_PROPAGATE", _flag),),
    "hf_token": (("HF_TOKEN", _text), ("HUGGING_FACE_HUB_TOKEN", _text)),
    "hf_home": (("HF_HOME", _text), ("XDG_CACHE_HOME", _cache)),
    "hf_token_path": (("HF_TOKEN_PATH", _text),),
}
"""For each field its variables, the first that is set counts. A blank one counts as unset."""

WITHOUT_EFFECT: Mapping[str, str] = {
    "TINKER_SUBPROCESS_SAMPLING": "samples run in the tasks that ask for them",
    "TINKEX_HTTP_POOL": "each purpose has its pool, as large as pool_size and pool_count say",
}
"""Variables that other clients know, and why this one doesn't need them."""
