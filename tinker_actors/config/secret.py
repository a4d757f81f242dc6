"""Secrets: values that nothing shows but the wire."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import final

from tinker_actors.errors import CredentialError

__all__ = ["Pairs", "Secret", "parse_api_key", "parse_secret"]

_HIDDEN = "[hidden]"
_TELLING = ("key", "token", "secret", "password", "auth", "cookie", "signature", "credential")


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


@final
class Pairs(Mapping[str, str]):
    """Headers or query parameters, in order. Printing hides the values whose names tell that they are secret."""

    __slots__ = ("_pairs",)

    def __init__(self, pairs: Mapping[str, str] | None = None) -> None:
        self._pairs = dict(pairs or {})

    def __getitem__(self, name: str) -> str:
        return self._pairs[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._pairs)

    def __len__(self) -> int:
        return len(self._pairs)

    def __hash__(self) -> int:
        return hash(tuple(self._pairs.items()))

    def __repr__(self) -> str:
        shown = {name: _HIDDEN if _is_secret(name) else value for name, value in self._pairs.items()}
        return f"Pairs({shown!r})"

    def __reduce__(self) -> str:
        raise TypeError("headers are not pickled, for they may hold secrets: load the Config in the other process")


def parse_api_key(given: object, field: str = "api_key") -> Secret:
    """``given`` if it can be an API key; CredentialError, which never shows it, if not."""
    cure = "Set TINKER_API_KEY or pass api_key=; keys start with 'tml-'"
    if isinstance(given, Secret):
        given = given.reveal()
    if given is None or given == "":
        raise CredentialError(field, "is missing", cure)
    if not isinstance(given, str):
        raise CredentialError(field, f"is of type {type(given).__name__}, not a string", cure)
    if not given.startswith(("tml-", "eyJ")):
        raise CredentialError(field, "does not start with 'tml-'", cure)
    return parse_secret(field, given, cure)


def parse_secret(field: str, given: object, cure: str = "Give it as the service showed it") -> Secret:
    """``given`` if it can stand in a header; CredentialError, which never shows it, if not."""
    if isinstance(given, Secret):
        given = given.reveal()
    if not isinstance(given, str):
        raise CredentialError(field, f"is of type {type(given).__name__}, not a string", cure)
    if not given:
        raise CredentialError(field, "is empty", cure)
    if not given.isascii() or not given.isprintable() or " " in given:
        raise CredentialError(field, "holds characters that can't stand in a header", cure)
    return Secret(given)


def _is_secret(name: str) -> bool:
    lower = name.lower()
    return any(word in lower for word in _TELLING)
