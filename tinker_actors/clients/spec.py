"""How a client's actor is supervised: one that crashes again and again ends degraded by itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from supervision import Actor, Backoff, ChildSpec, StopReason

__all__ = ["client_spec"]

_RESTARTS: Final = 10
_SECONDS: Final = 60.0


def client_spec(
    name: str, factory: Callable[[], Actor], *, on_close: Callable[[StopReason], object] | None = None
) -> ChildSpec:
    """The spec of any client: more than ten crashes within a minute end it alone."""
    return ChildSpec(
        name,
        factory,
        backoff=Backoff(initial=0.05, maximum=5.0),
        max_restarts=_RESTARTS,
        max_seconds=_SECONDS,
        on_close=on_close,
    )
