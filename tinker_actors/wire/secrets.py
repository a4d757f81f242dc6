"""The secrets that a server may echo, and texts without them."""

from __future__ import annotations

from typing import final

from tinker_actors.config import Secret

__all__ = ["Secrets"]

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

    def __repr__(self) -> str:
        return "Secrets(...)"
