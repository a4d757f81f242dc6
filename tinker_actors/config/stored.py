"""The file of stored credentials, ~/.tinker/credentials.json, as `tinker auth login` writes it."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path

import msgspec

from tinker_actors.config.secret import Secret, parse_api_key
from tinker_actors.errors import CredentialError, InvalidInput

__all__ = ["stored_key"]

_LARGEST = 1 << 20  # bytes


class _Key(msgspec.Struct, frozen=True):
    key: str

    def __repr__(self) -> str:
        return "_Key(...)"


class _File(msgspec.Struct, frozen=True):
    version: int
    default: str | None = None
    keys: dict[str, _Key] = {}


def stored_key(environ: Mapping[str, str]) -> Secret | None:
    """The default key of the stored credentials; None where nothing is stored.

    Raises CredentialError, which never shows a key, for a file that others may read or write, and for one that can't
    be read.
    """
    home = environ.get("HOME") or environ.get("USERPROFILE")
    if not home:
        return None
    path = Path(home) / ".tinker" / "credentials.json"
    cure = f"Mend or remove {path}, or set TINKER_API_KEY"
    try:
        with path.open("rb") as stream:
            found = os.fstat(stream.fileno())
            raw = stream.read(_LARGEST + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise _error(path, f"can't be read: {error.strerror}", cure) from None
    if os.name == "posix":
        if found.st_mode & 0o077:
            problem = f"may be read or written by others (mode {stat.S_IMODE(found.st_mode):o})"
            raise _error(path, problem, f"chmod 600 {path}")
        if found.st_uid not in (os.geteuid(), 0):
            raise _error(path, "belongs to another user", cure)
    if len(raw) > _LARGEST:
        raise _error(path, f"holds more than {_LARGEST} bytes", cure)
    stored = _decode(raw)
    if stored is None:
        raise _error(path, "holds no stored credentials", cure)
    if stored.version != 1:
        raise _error(path, f"is of version {stored.version}, only 1 is known", cure)
    if stored.default is None or stored.default not in stored.keys:
        return None
    try:
        return parse_api_key(stored.keys[stored.default].key)
    except InvalidInput as error:
        problem = error.problem
    raise _error(path, f"holds a default key that {problem}", cure)


def _decode(raw: bytes) -> _File | None:
    try:
        return msgspec.json.decode(raw, type=_File)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None  # the reason may quote a key


def _error(path: Path, problem: str, cure: str) -> CredentialError:
    error = CredentialError("api_key", f"the file of stored credentials {problem}", cure)
    error.source = str(path)
    return error
