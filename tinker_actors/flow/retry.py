"""Trying again as a RetryConfig says: RetryHandler for what requests of one client share, Retry for any function."""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Literal, TypeVar, final

import msgspec
import trio

from tinker_actors.config import Backoff, RetryConfig
from tinker_actors.errors import APIError, APITimeoutError
from tinker_actors.flow.patience import OutOfPatience, Patience
from tinker_actors.flow.progress import Progress
from tinker_actors.flow.reaction import Reaction, while_calling
from tinker_actors.flow.semaphore import Semaphore

__all__ = ["Retry", "RetryEvent", "RetryHandler"]

T = TypeVar("T")

_BILLING_BOUND = 3600.0


@final
class RetryHandler:
    """What the requests of one client share: how to try again, how many at once, and when one last came through.

    ``outage_bound`` and ``billing_bound`` are seconds without a usable answer and of a billing pause; ``max_retries``
    bounds the repeats of each request besides what the RetryConfig says. ``on_retry`` is called with the
    error before each repeat.
    """

    def __init__(
        self,
        config: RetryConfig,
        rng: random.Random,
        *,
        outage_bound: float,
        billing_bound: float = _BILLING_BOUND,
        max_retries: int | None = None,
        on_retry: Callable[[APIError], object] | None = None,
    ) -> None:
        self._on_retry = on_retry
        self.config = config
        self._random = rng
        self._outage_bound = outage_bound
        self._billing_bound = billing_bound
        bounds = [bound for bound in (config.max_retries, max_retries) if bound is not None]
        self._max_retries = min(bounds, default=None) if config.enable_retry_logic else 0
        self._progress = Progress(config.progress_timeout if config.enable_stuck_detection else None)
        self._connections = None if config.max_connections is None else Semaphore(config.max_connections)

    def record_progress(self) -> None:
        """Something came through; the progress timeout begins anew for all that share this handler."""
        self._progress.record()

    def patience(self, backoff: Backoff | None = None) -> Patience:
        """Fresh patience for one request; ``backoff`` gives other waits than the configuration."""
        return Patience(
            self._random,
            outage_bound=self._outage_bound,
            billing_bound=self._billing_bound,
            retry=self.config,
            max_retries=self._max_retries,
            progress=self._progress,
            backoff=backoff,
            on_retry=self._on_retry,
        )

    @asynccontextmanager
    async def connection(self) -> AsyncGenerator[None]:
        """One of ``max_connections`` for the length of the block."""
        if self._connections is None:
            yield
            return
        async with self._connections.hold():
            yield


class RetryEvent(msgspec.Struct, frozen=True, kw_only=True):
    """What happened to a call under Retry: an attempt starts, ends well, is to be repeated, or was the last.

    ``attempt`` counts from 0; ``reason`` says when and after what the next one comes.
    """

    kind: Literal["start", "stop", "retry", "failed"]
    attempt: int
    duration: float = 0.0
    reason: str = ""
    error: Exception | None = None


class _Named(APIError):
    """Carries an exception that the user named as worth repeating through the engine, which speaks of APIErrors."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


@final
class Retry:
    """Calls functions until they succeed, as ``config`` says.

    Repeated are connections lost or timed out, HTTP 408, 409, 429 and 5xx (unless the server's x-should-retry says
    otherwise), a billing pause, and the configuration's ``retryable_exceptions``. Everything else is final. ``rng``
    gives the jitter; ``on_event`` is told of each attempt.
    """

    def __init__(
        self,
        config: RetryConfig | None = None,
        *,
        rng: random.Random | None = None,
        on_event: Callable[[RetryEvent], None] | None = None,
    ) -> None:
        self.config = config if config is not None else RetryConfig()
        bound = self.config.progress_timeout if self.config.enable_stuck_detection else float("inf")
        self._handler = RetryHandler(
            self.config, rng if rng is not None else random.Random(), outage_bound=bound, billing_bound=_BILLING_BOUND
        )
        self._tell = on_event if on_event is not None else _nobody

    def record_progress(self) -> None:
        """What is being called gets on, although it has not returned: the progress timeout begins anew."""
        self._handler.record_progress()

    async def call(self, function: Callable[[], Awaitable[T]]) -> T:
        """What ``function`` returns. Raises its last error, and APITimeoutError after the progress timeout."""
        attempts = 0
        began = trio.current_time()

        async def attempt() -> T:
            nonlocal attempts, began
            began = trio.current_time()
            self._tell(RetryEvent(kind="start", attempt=attempts))
            attempts += 1
            try:
                return await function()
            except self.config.retryable_exceptions as error:
                if isinstance(error, APIError):
                    raise
                raise _Named(error) from error

        def announce(reason: str) -> None:
            event = RetryEvent(
                kind="retry", attempt=attempts - 1, duration=trio.current_time() - began, reason=reason
            )
            self._tell(event)

        async with self._handler.connection():
            try:
                answer = await self._handler.patience().persist(attempt, self._react, announce)
            except OutOfPatience as found:
                gone = found
            else:
                self._tell(RetryEvent(kind="stop", attempt=attempts - 1, duration=trio.current_time() - began))
                return answer
        # outside of the handler: the engine's signal is nothing that a user should see as a context
        last = gone.error.cause if isinstance(gone.error, _Named) else gone.error
        duration = trio.current_time() - began
        self._tell(RetryEvent(kind="failed", attempt=attempts - 1, duration=duration, error=last))
        if gone.overdue:
            raise APITimeoutError(
                f"no progress for {gone.lasted:.0f} s in {attempts} attempts, last: {last}"
            ) from last
        raise last

    def _react(self, error: APIError) -> Reaction:
        return Reaction.REPEAT if isinstance(error, _Named) else while_calling(error)


def _nobody(event: RetryEvent) -> None:
    """Nobody listens."""
