"""The queue state of a client: whether the server works on what it was sent, and who wants to know of changes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Literal, Self, TypeAlias, final

import msgspec
import trio
from trio_util import AsyncValue

from tinker_actors.types import QueueState

__all__ = ["ClientQueue", "Observer", "QueueStateChange", "QueueSubscription", "pause_reason"]

_REASONS = {
    ("training", QueueState.PAUSED_RATE_LIMIT): "as many training clients as it allows are at work",
    ("sampling", QueueState.PAUSED_RATE_LIMIT): "as many sets of sampler weights as it allows are in use",
    ("training", QueueState.PAUSED_CAPACITY): "it is short of capacity",
    ("sampling", QueueState.PAUSED_CAPACITY): "it is short of capacity",
}


class QueueStateChange(msgspec.Struct, frozen=True, kw_only=True):
    """The queue state of ``client`` is ``state`` from now on, and why; active ones need no reason."""

    client: str
    kind: Literal["training", "sampling"]
    state: QueueState
    reason: str


Observer: TypeAlias = Callable[[QueueStateChange], Awaitable[object] | object]
"""An async function, called on the loop, or a plain one, called in a thread."""


@final
class QueueSubscription:
    """Ends with cancel(), or with the ``with`` block it was opened for. Of several changes the last is kept."""

    __slots__ = ("_change", "_lot", "active", "observer")

    def __init__(self, observer: Observer) -> None:
        self.observer = observer
        self.active = True
        """Whether calls may still come. Read only."""
        self._change: QueueStateChange | None = None
        self._lot = trio.lowlevel.ParkingLot()

    def cancel(self) -> None:
        """No call begins after this. Idempotent."""
        self.active = False
        self._change = None
        self._lot.unpark_all()

    def offer(self, change: QueueStateChange) -> None:
        """To be told next, in the place of one that has not been told yet."""
        self._change = change
        self._lot.unpark_all()

    async def next(self) -> QueueStateChange | None:
        """The change to tell next, once there is one; None when the subscription has ended."""
        while self.active and self._change is None:
            await self._lot.park()
        change, self._change = self._change, None
        return change

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.cancel()


@final
class ClientQueue:
    """A plain object on a client's place. ``state`` is an AsyncValue: read it or wait for a value."""

    def __init__(self, client: str, kind: Literal["training", "sampling"]) -> None:
        self.client = client
        self.kind: Literal["training", "sampling"] = kind
        self.state: AsyncValue[QueueState] = AsyncValue(QueueState.ACTIVE)
        self._reason = ""
        self._subscriptions: list[QueueSubscription] = []

    def subscribe(self, observer: Observer) -> QueueSubscription:
        """From now on ``observer`` is to be told of changes."""
        self._subscriptions = [known for known in self._subscriptions if known.active]
        subscription = QueueSubscription(observer)
        self._subscriptions.append(subscription)
        return subscription

    def close(self) -> None:
        """The client is gone: nobody is told any more."""
        for subscription in self._subscriptions:
            subscription.cancel()
        self._subscriptions = []

    def report(self, state: QueueState, reason: str | None) -> None:
        """What a poll said. A state that is not known counts only with a reason."""
        if state is QueueState.UNKNOWN and not reason:
            return
        why = pause_reason(self.kind, state, reason)
        if state is self.state.value and why == self._reason:
            return
        self._reason = why
        self.state.value = state
        change = QueueStateChange(client=self.client, kind=self.kind, state=state, reason=why)
        for subscription in self._subscriptions:
            if subscription.active:
                subscription.offer(change)


def pause_reason(kind: Literal["training", "sampling"], state: QueueState, given: str | None) -> str:
    """``given``, or what such a pause commonly means; empty for a state that is none."""
    if state is QueueState.ACTIVE:
        return ""
    return given or _REASONS.get((kind, state), "it gives no reason")
