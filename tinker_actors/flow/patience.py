"""How long one logical request has gone without a usable answer, and how long to wait before its next try."""

from __future__ import annotations

import math
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

from tinker_actors.checks import number
from tinker_actors.config import Backoff, RetryConfig
from tinker_actors.errors import APIError, APIStatusError, InvalidInput
from tinker_actors.flow.progress import Progress
from tinker_actors.flow.reaction import Reaction

__all__ = ["RECHECKS", "OutOfPatience", "Patience", "brief"]

T = TypeVar("T")

_SHORTEST_DELAY = 0.05  # whatever a user's own back-off says: no server is asked in a tight loop
_BILLING_DELAY = 5.0
RECHECKS = 3
"""Tries after the first 400, 413 or 422 to a poll; the official SDK's budget against answers from proxies."""


_DEFAULT = RetryConfig()


class OutOfPatience(Exception):  # a signal between flow and its caller, never seen by users
    """No more tries: ``lasted`` seconds without a usable answer, or the last answer is final.

    ``overdue`` when time without an answer or without progress ended it; the end of a billing pause is no such thing.
    """

    def __init__(self, reaction: Reaction, error: APIError, lasted: float, *, overdue: bool = False) -> None:
        super().__init__(reaction, error, lasted)
        self.overdue = overdue
        self.reaction = reaction
        self.error = error
        self.lasted = lasted

    @property
    def outage(self) -> bool:
        """Whether it was for want of a usable answer, and the same request may do better later."""
        return self.overdue or self.reaction is Reaction.REPEAT


class Patience:
    """The tries of one logical request.

    ``outage_bound`` is the time in seconds without any usable answer, ``billing_bound`` that of a billing
    pause. Delays are those of ``retry`` or, before jitter, of ``backoff``; a Retry-After is a lower bound, even
    where the last try then comes after the bound. ``max_retries`` bounds the repeats since the last usable answer;
    ``progress`` is shared with other requests, and ends this one when none of them has come through for too long.
    """

    def __init__(
        self,
        rng: random.Random,
        *,
        outage_bound: float,
        billing_bound: float,
        retry: RetryConfig = _DEFAULT,
        max_retries: int | None = None,
        progress: Progress | None = None,
        backoff: Backoff | None = None,
        on_retry: Callable[[APIError], object] | None = None,
    ) -> None:
        self._random = rng
        self._outage_bound = outage_bound
        self._billing_bound = billing_bound
        self._retry = retry
        self._max_retries = max_retries
        self._progress = progress if progress is not None else Progress(None)
        self._backoff: Backoff = backoff if backoff is not None else retry.delay
        self._on_retry = on_retry
        self._since: float | None = None
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
        self._progress.record()
        self._since = None
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
        since = self._since = now if self._since is None else self._since
        if self._max_retries is not None and self._failures >= self._max_retries:
            raise OutOfPatience(reaction, error, now - since)
        if (left := self._progress.left(since)) <= 0:
            raise OutOfPatience(reaction, error, self._progress.quiet(since), overdue=True)
        asked = error.retry_after if isinstance(error, APIStatusError) else None
        delay = min(max(self._delay(), asked or 0.0), max(left, asked or 0.0))
        if reaction is Reaction.REPEAT:
            if self._failing_since is None:
                self._failing_since = now
            remaining = self._failing_since + self._outage_bound - now
            if remaining <= 0:
                raise OutOfPatience(reaction, error, now - self._failing_since, overdue=True)
            delay = max(min(delay, remaining), asked or 0.0)
        elif reaction is Reaction.WAIT:
            self._failing_since = None
        elif reaction is Reaction.PAUSE:
            if self._paused_since is None:
                self._paused_since = now
            if now - self._paused_since >= self._billing_bound:
                raise OutOfPatience(reaction, error, now - self._paused_since)
            delay = max(_BILLING_DELAY, asked or 0.0)
        elif reaction is Reaction.RENEW and not self._renewed:
            self._renewed = True
        elif reaction is Reaction.RECHECK and self._rechecks < RECHECKS:
            self._rechecks += 1
        else:
            raise OutOfPatience(reaction, error, 0.0)
        self._failures += 1
        if self._on_retry is not None:
            self._on_retry(error)
        announce(f"try {self._failures + 1} in {delay:.1f} s after {brief(error)}")
        await trio.sleep(delay)

    def _delay(self) -> float:
        cure = "Let it give a finite number of seconds for each try"
        delay = number("poll_backoff's delay", self._backoff(self._failures), cure)
        if not 0.0 <= delay < math.inf:
            raise InvalidInput("poll_backoff's delay", f"{delay} is no time to wait", cure)
        delay *= self._random.uniform(1.0 - self._retry.jitter_factor, 1.0)
        return max(delay, _SHORTEST_DELAY)


def brief(error: APIError) -> str:
    """``error`` in a few words, for a reason that stands in one line."""
    if isinstance(error, APIStatusError):
        return f"HTTP {error.status}"
    return f"{type(error).__name__}: {error}"
