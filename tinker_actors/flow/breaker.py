"""CircuitBreaker: a dependency that keeps failing is left alone for a while, then tried with care."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import TypeVar, final

import msgspec
import trio

from tinker_actors.checks import integer, number
from tinker_actors.errors import CircuitOpen, InvalidInput

__all__ = ["BreakerState", "BreakerStatistics", "CircuitBreaker"]

T = TypeVar("T")


class BreakerState(StrEnum):
    """closed: calls run; open: they are refused; half_open: a few are let through to find out."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class BreakerStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """The state, failures in a row while closed, probes under way, and seconds until calls are let through again."""

    state: BreakerState
    failures: int
    probes: int
    opens_in: float


@final
class CircuitBreaker:
    """Opens after ``failure_threshold`` failures in a row; ``reset_timeout`` seconds later it is half open.

    Half open, at most ``half_open_max_calls`` calls are under way at a time: one that succeeds closes the circuit,
    one that fails opens it again. What began before the circuit last changed its state has no say in the present one.
    A call that is cancelled is neither success nor failure, and gives its probe back. Times are of trio's clock.
    Raises InvalidInput for settings that could never open, or never close again.
    """

    def __init__(
        self, *, failure_threshold: int = 5, reset_timeout: float = 30.0, half_open_max_calls: int = 1
    ) -> None:
        self._threshold = integer("failure_threshold", failure_threshold, "Let at least one call fail", low=1)
        self._reset_timeout = number("reset_timeout", reset_timeout, "Give a number of seconds")
        if not 0.0 <= self._reset_timeout < math.inf:
            raise InvalidInput("reset_timeout", f"{reset_timeout} is no time to wait", "Give a number of seconds")
        self._max_probes = integer("half_open_max_calls", half_open_max_calls, "Let at least one call through", low=1)
        self._failures = 0
        self._opened_at: float | None = None
        self._probes = 0
        self._running = 0
        self._epoch = 0

    @property
    def state(self) -> BreakerState:
        """The state now: an open circuit is half open once its time is over."""
        if self._opened_at is None:
            return BreakerState.CLOSED
        over = trio.current_time() - self._opened_at >= self._reset_timeout
        return BreakerState.HALF_OPEN if over else BreakerState.OPEN

    @property
    def untroubled(self) -> bool:
        """Closed, without a failure, and nothing under way: the same as a new one."""
        return self._opened_at is None and not self._failures and not self._running

    def allows(self) -> bool:
        """Whether a call would be run now."""
        state = self.state
        return state is BreakerState.CLOSED or (state is BreakerState.HALF_OPEN and self._probes < self._max_probes)

    async def call(self, function: Callable[[], Awaitable[T]], success: Callable[[T], bool] | None = None) -> T:
        """What ``function`` returns, or raises; raises CircuitOpen without running it while the circuit is open.

        An exception is a failure, but for InvalidInput, and so is a value that ``success`` says no to. Raises
        InvalidInput for what is no async function.
        """
        if not callable(function):
            problem = f"is of type {type(function).__name__}"
            raise InvalidInput("function", problem, "Give an async function of no arguments, not called yet")
        if not self.allows():
            raise CircuitOpen(self._why())
        epoch = self._epoch
        probe = self._opened_at is not None
        self._probes += probe
        self._running += 1
        try:
            awaitable = function()
            if not isinstance(awaitable, Awaitable):  # pyright: ignore[reportUnnecessaryIsInstance]  # a user's
                raise InvalidInput("function", "gives nothing to await", "Give an async function of no arguments")
            value = await awaitable
            well = success is None or success(value)
        except InvalidInput:
            raise  # a mistake of the caller's says nothing about what is called
        except Exception:
            self._ended(epoch, well=False)
            raise
        finally:
            self._running -= 1
            if probe and epoch == self._epoch:
                self._probes -= 1
        self._ended(epoch, well=well)
        return value

    def reset(self) -> None:
        """Close the circuit and forget its failures."""
        self._enter(None)

    def statistics(self) -> BreakerStatistics:
        """The state and what it rests on."""
        state = self.state
        left = 0.0
        if state is BreakerState.OPEN:
            assert self._opened_at is not None
            left = self._opened_at + self._reset_timeout - trio.current_time()
        return BreakerStatistics(state=state, failures=self._failures, probes=self._probes, opens_in=left)

    def __repr__(self) -> str:
        return f"<CircuitBreaker {self.state}, failures {self._failures}>"

    def _ended(self, epoch: int, *, well: bool) -> None:
        if epoch != self._epoch:
            return
        if self._opened_at is not None:  # a probe
            self._enter(None if well else trio.current_time())
        elif well:
            self._failures = 0
        else:
            self._failures += 1
            if self._failures >= self._threshold:
                self._enter(trio.current_time())

    def _enter(self, opened_at: float | None) -> None:
        self._opened_at = opened_at
        self._probes = 0
        self._epoch += 1
        if opened_at is None:
            self._failures = 0

    def _why(self) -> str:
        now = self.statistics()
        if now.state is BreakerState.OPEN:
            return (
                f"the circuit is open after {now.failures} failures in a row; calls are tried in {now.opens_in:.1f} s"
            )
        return f"the circuit is half open, and {self._probes} calls find out whether it can close"
