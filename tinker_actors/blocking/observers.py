"""Observers of queue states for threads: plain functions, called in threads of the engine's."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Self, TypeAlias, final

from tinker_actors.blocking.engine import Engine
from tinker_actors.errors import InvalidInput
from tinker_actors.flow.queue_state import Observer, QueueStateChange, QueueSubscription

__all__ = ["BlockingSubscription", "PlainObserver", "observe"]

PlainObserver: TypeAlias = Callable[[QueueStateChange], object]


@final
class BlockingSubscription:
    """Ends with cancel(), or with the ``with`` block it was opened for."""

    def __init__(self, engine: Engine, inner: QueueSubscription) -> None:
        self._engine = engine
        self._inner = inner

    @property
    def active(self) -> bool:
        """Whether calls may still come."""
        return self._inner.active

    def cancel(self) -> None:
        """No call begins after this. Idempotent."""
        self._engine.ask("cancel", self._inner.cancel, after_end=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.cancel()


def observe(
    engine: Engine, subscribe: Callable[[Observer], QueueSubscription], observer: PlainObserver
) -> BlockingSubscription:
    """Subscribe in the engine. Raises InvalidInput for an async observer."""
    if inspect.iscoroutinefunction(observer) or inspect.iscoroutinefunction(type(observer).__call__):
        raise InvalidInput("observer", "is an async function, which has no loop here", "Give a plain function")
    return engine.ask("on_queue_state_change", lambda: BlockingSubscription(engine, subscribe(observer)))
