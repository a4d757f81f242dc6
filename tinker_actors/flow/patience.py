"""How long one logical request has gone without a usable answer, and how long to wait before its next try."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

from tinker_actors.errors import APIError, APIStatusError
from tinker_actors.flow.reaction import Reaction

__all__ = ["RECHECKS", "OutOfPatience", "Patience", "brief"]

T = TypeVar("T")

_FIRST_DELAY = 0.5
_LONGEST_DELAY = 10.0
_BILLING_DELAY = 5.0
RECHECKS = 3
"""Tries after the first 400, 413 or 422 to a poll; the official SDK's budget against answers from proxies."""


class OutOfPatience(Exception):  # a signal between flow and its caller, never seen by users
    """No more tries: ``lasted`` seconds without a usable answer, or the last answer is final."""

    def __init__(self, reaction: Reaction, error: APIError, lasted: float) -> None:
        super().__init__(reaction, error, lasted)
        self.reaction = reaction
        self.error = error
        self.lasted = lasted


class Patience:
    """The tries of one logical request.

    ``outage_bound`` is the time in seconds without any usable answer, ``billing_bound`` that of a billing
    pause. Delays are those of the official SDK: min(0.5 * 2**n, 10) seconds times a factor from 0.75 to 1; a
    Retry-After is a lower bound.
    """

    def __init__(self, rng: random.Random, *, outage_bound: float, billing_bound: float) -> None:
        self._random = rng
        self._outage_bound = outage_bound
        self._billing_bound = billing_bound
        self._failing_since: float | None = None
        self._paused_since: float | None = None
        self._failures = 0
        self._rechecks = 0
        self._renewed = False

    @property
    def tries(self) -> int:
        """Failed tries since the last usable answer."""
        return self._failures

    def succeeded(self) -> None:
        """A usable answer arrived."""
        self._failing_since = None
        self._paused_since = None
        self._failures = 0

    async def persist(
        self,
        attempt: Callable[[], Awaitable[T]],
        react: Callable[[APIError], Reaction],
        announce: Callable[[str], None],
    ) -> T:
        """Call ``attempt`` until it gives a usable answer; ``react`` says what each error means.

        Raises OutOfPatience when there is to be no further try; other exceptions pass.
        """
        while True:
            try:
                answer = await attempt()
            except APIError as error:
                await self.after(react(error), error, announce)
            else:
                self.succeeded()
                return answer

    async def after(self, reaction: Reaction, error: APIError, announce: Callable[[str], None]) -> None:
        """Wait as ``reaction`` to ``error`` demands, having announced the reason.

        Raises OutOfPatience when there is to be no further try.
        """
        now = trio.current_time()
        delay = self._delay(error)
        if reaction is Reaction.REPEAT:
            if self._failing_since is None:
                self._failing_since = now
            remaining = self._failing_since + self._outage_bound - now
            if remaining <= 0:
                raise OutOfPatience(reaction, error, now - self._failing_since)
            delay = min(delay, remaining)
        elif reaction is Reaction.WAIT:
            self._failing_since = None
        elif reaction is Reaction.PAUSE:
            if self._paused_since is None:
                self._paused_since = now
            if now - self._paused_since >= self._billing_bound:
                raise OutOfPatience(reaction, error, now - self._paused_since)
            delay = _BILLING_DELAY
        elif reaction is Reaction.RENEW and not self._renewed:
            self._renewed = True
        elif reaction is Reaction.RECHECK and self._rechecks < RECHECKS:
            self._rechecks += 1
        else:
            raise OutOfPatience(reaction, error, 0.0)
        self._failures += 1
        announce(f"try {self._failures + 1} in {delay:.1f} s after {brief(error)}")
        await trio.sleep(delay)

    def _delay(self, error: APIError) -> float:
        delay = min(_FIRST_DELAY * 2.0 ** min(self._failures, 10), _LONGEST_DELAY)
        delay *= self._random.uniform(0.75, 1.0)
        asked = error.retry_after if isinstance(error, APIStatusError) else None
        return max(delay, asked) if asked is not None else delay


def brief(error: APIError) -> str:
    """``error`` in a few words, for a reason that stands in one line."""
    if isinstance(error, APIStatusError):
        return f"HTTP {error.status}"
    return f"{type(error).__name__}: {error}"
