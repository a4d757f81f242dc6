"""The Points port: named places in the code where a fault plan may raise."""

from __future__ import annotations

from typing import Protocol

__all__ = ["NoPoints", "Points"]


class Points(Protocol):
    """Told when the code reaches a named point; a fault plan may raise there."""

    def reach(self, point: str, subject: str) -> None:
        """``point`` such as "training.before_send"; ``subject`` says for what, such as "op 7"."""
        ...


class NoPoints:
    """Production: nothing happens."""

    def reach(self, point: str, subject: str) -> None:
        """Do nothing."""
