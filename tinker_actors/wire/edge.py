"""Tells a refusal of the server's from one of a proxy in front of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import final

from tinker_actors.ports import Purpose

__all__ = ["EdgeRejections"]

_BUDGET = 16


@final
class EdgeRejections:
    """Counts the 400s without a word that pass for a lost connection, per pool.

    Edge proxies refuse a connection that they have grown tired of in this way; the same request passes on another
    one. At most 16 in a row pass for that, so that a server which really refuses is believed in the end; each
    success gives one back.
    """

    def __init__(self) -> None:
        self._left: dict[Purpose, int] = {}

    def rejected(self, status: int, headers: Mapping[str, str], body: bytes, purpose: Purpose) -> bool:
        """Whether this reply is one of them."""
        if status != 400 or headers.get("content-length", "0") != "0" or body.lstrip()[:1] in (b"{", b"["):
            return False
        left = self._left.get(purpose, _BUDGET)
        self._left[purpose] = max(0, left - 1)
        return left > 0

    def succeeded(self, purpose: Purpose) -> None:
        """A request got through."""
        if purpose in self._left:
            self._left[purpose] = min(_BUDGET, self._left[purpose] + 1)
