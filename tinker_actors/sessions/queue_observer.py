"""The QueueObserver: tells those who want to know of a client's queue state, and lets none of them do harm."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable
from typing import cast, final

import trio

from supervision import Actor, Cast, handles
from tinker_actors.flow.queue_state import QueueStateChange, QueueSubscription

__all__ = ["Observe", "QueueObserver"]

_log = logging.getLogger("tinker_actors.sessions")

_DEBOUNCE = 1.0  # seconds between two calls of one observer; of the changes in between the last is told
_LONGEST_CALL = 10.0


class Observe(Cast, frozen=True):
    """There is a new subscription in the session's book."""

    subscription: QueueSubscription


@final
class QueueObserver(Actor):
    """Calls each observer in a task of its own: an async one on the loop, a plain one in a thread.

    An observer hears of the first change at once, then at most once a second, and never twice the same. One that
    raises, or is not through after ten seconds, is told no more, and the log says so; nobody else waits for it.
    """

    def __init__(self, subscriptions: set[QueueSubscription]) -> None:
        self._subscriptions = subscriptions

    async def init(self) -> None:
        """Go on with all subscriptions there are."""
        for subscription in tuple(self._subscriptions):
            self._begin(subscription)

    @handles(Observe)
    def observe(self, message: Observe) -> None:
        """Begin with a new one."""
        self._begin(message.subscription)

    def _begin(self, subscription: QueueSubscription) -> None:
        self.context.start_task(self._tell, subscription, name=f"observer {_name(subscription)}")

    async def _tell(self, subscription: QueueSubscription) -> None:
        told: QueueStateChange | None = None
        while (change := await subscription.next()) is not None:
            if change == told:
                continue
            try:
                with trio.fail_after(_LONGEST_CALL):
                    await self._call(subscription, change)
            except Exception as error:  # noqa: BLE001  # whatever a user's code raises
                subscription.cancel()
                hangs = isinstance(error, trio.TooSlowError)
                why = f"was not through after {_LONGEST_CALL:g} s" if hangs else "failed"
                _log.error("the queue observer %s %s: it is told no more", _name(subscription), why, exc_info=error)
                break
            told = change
            await trio.sleep(_DEBOUNCE)
        self._subscriptions.discard(subscription)

    async def _call(self, subscription: QueueSubscription, change: QueueStateChange) -> None:
        observer = subscription.observer
        if inspect.iscoroutinefunction(observer) or inspect.iscoroutinefunction(type(observer).__call__):
            await cast("Awaitable[object]", observer(change))
        else:
            # Left behind if it hangs, since trio can't stop a thread. Not in the actor's own few threads: those that
            # hang would take the room of those that don't.
            await trio.to_thread.run_sync(observer, change, abandon_on_cancel=True, limiter=trio.CapacityLimiter(1))


def _name(subscription: QueueSubscription) -> str:
    return getattr(subscription.observer, "__qualname__", None) or repr(subscription.observer)
