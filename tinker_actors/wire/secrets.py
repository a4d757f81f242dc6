"""The secrets that a server may echo, and texts without them."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TypeVar, final

from tinker_actors.config import Secret
from tinker_actors.errors import APIConnectionError, APIError, APIResponseError

__all__ = ["Secrets"]

T = TypeVar("T")

_HIDDEN = "[hidden]"
_REMEMBERED = 32  # secrets of the past that a late reply may still echo


@final
class Secrets:
    """Remembers what was sent as a credential, the youngest ones."""

    def __init__(self) -> None:
        self._known: dict[Secret, None] = {}

    def remember(self, secret: Secret) -> None:
        """Hide ``secret`` from now on."""
        self._known.pop(secret, None)  # a known one becomes the youngest
        self._known[secret] = None
        while len(self._known) > _REMEMBERED:
            del self._known[next(iter(self._known))]

    def redact(self, text: str) -> str:
        """``text`` without them."""
        for secret in self._known:
            text = text.replace(secret.reveal(), _HIDDEN)
        return text

    async def guarded(self, work: Awaitable[T], name: str) -> T:
        """What ``work`` for the request ``name`` gives. An APIError that shows a secret, as where a redirect has put
        one into an address, is raised without it.
        """
        try:
            return await work
        except APIError as error:
            text = f"{error}"
            if self.redact(f"{text} {error.request}") == f"{text} {error.request}":
                raise
            failed: APIError = APIResponseError(self.redact(text), request=name)
            if isinstance(error, APIConnectionError):
                failed = type(error)(self.redact(text), request=name, sent=error.sent)
        # outside of the handler, or the other one would be its context
        raise failed

    def __repr__(self) -> str:
        return "Secrets(...)"
