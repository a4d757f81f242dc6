"""SamplingDispatch: the gates that a sample passes on its way to the server."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import TypeVar, final

import msgspec
import trio

from tinker_actors.errors import BillingError, RateLimitError
from tinker_actors.flow.adaptive import AdaptiveLimit, AdaptiveStatistics
from tinker_actors.flow.bytes_semaphore import BytesSemaphore, BytesStatistics
from tinker_actors.flow.rate_limit import RateLimiter, RateLimiterStatistics
from tinker_actors.flow.semaphore import Semaphore, SemaphoreStatistics

__all__ = ["DispatchStatistics", "SamplingDispatch"]

T = TypeVar("T")

# The official SDK's numbers (WIRE 7.1, 7.2).
_AT_ONCE = 400
_THROTTLED = 10
_RECENT = 10.0
_PENALTY = 20
_SMALL = 131_072
_SMALL_PAUSE, _LARGE_PAUSE = 1.0, 5.0


class DispatchStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """Each gate, in the order in which a sample passes them."""

    in_flight: AdaptiveStatistics
    window: RateLimiterStatistics
    dispatch: SemaphoreStatistics
    throttled: SemaphoreStatistics
    size: BytesStatistics


@final
class SamplingDispatch:
    """All samples of one session pass here; those of other sessions with the same key share ``limiter``.

    A sample is in flight until it has its result: so many at once as the server bears (``in_flight``). While it is
    being sent it passes three more gates: 400 at once; 10 at once during a push-back and for 10 s after it; and
    ``size`` bytes, of which each sample then takes twenty times its own. None of these is held while it waits for the
    end of a push-back: the official SDK holds them, and so keeps out the small ones that would get through.
    """

    def __init__(self, limiter: RateLimiter, *, in_flight: int, size: int) -> None:
        self.limiter = limiter
        self._in_flight = AdaptiveLimit(in_flight)
        self._at_once = Semaphore(_AT_ONCE)
        self._throttled = Semaphore(_THROTTLED)
        self._bytes = BytesSemaphore(size)

    def in_flight(self) -> AbstractAsyncContextManager[None]:
        """A place among the samples in flight, for the length of the block."""
        return self._in_flight.hold()

    async def attempt(
        self, send: Callable[[], Awaitable[T]], size: int, announce: Callable[[str], None] | None = None
    ) -> T:
        """What ``send`` returns, called when a sample of ``size`` bytes may be sent; one attempt.

        A refusal for now (429, or 402 for a billing pause) begins a pause for all that use the key: 1 s, 5 s for
        more than 128 KiB, or what the server asks for if that is longer. ``announce`` is told of the wait for its
        end. A size below zero counts as zero. Raises what ``send`` raises.
        """
        size = max(0, size)
        while True:
            await self.limiter.wait(announce)
            recent = self.limiter.recent(_RECENT)
            await _pass(self._at_once)
            try:
                if recent:
                    await _pass(self._throttled)
                try:
                    charge = size * _PENALTY if recent else size
                    if not self._bytes.try_acquire(charge):
                        await self._bytes.acquire(charge)
                    try:
                        # a pause may have begun while this one waited for its turn
                        if self.limiter.remaining == 0.0:
                            return await self._send(send, size)
                    finally:
                        self._bytes.release(charge)
                finally:
                    if recent:
                        self._throttled.release()
            finally:
                self._at_once.release()

    def statistics(self) -> DispatchStatistics:
        """Each gate now."""
        return DispatchStatistics(
            in_flight=self._in_flight.statistics(),
            window=self.limiter.statistics(),
            dispatch=self._at_once.statistics(),
            throttled=self._throttled.statistics(),
            size=self._bytes.statistics(),
        )

    async def _send(self, send: Callable[[], Awaitable[T]], size: int) -> T:
        began = trio.current_time()
        try:
            answer = await send()
        except (RateLimitError, BillingError) as error:
            pause = _SMALL_PAUSE if size <= _SMALL else _LARGE_PAUSE
            self.limiter.back_off(max(pause, error.retry_after or 0.0))
            if isinstance(error, RateLimitError):
                self._in_flight.pushed_back(began)
            raise
        self.limiter.succeeded(began)
        self._in_flight.succeeded()
        return answer


async def _pass(gate: Semaphore) -> None:
    if not gate.try_acquire():  # without a checkpoint when there is room: the sending that follows has its own
        await gate.acquire()
