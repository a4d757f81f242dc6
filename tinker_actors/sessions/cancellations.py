"""Cancellations: samples that nobody waits for any more, taken back at the server where it offers that (WIRE 3.8)."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager, suppress
from typing import TypeVar, final

import trio

from tinker_actors.errors import APITimeoutError, ClosedError, RequestFailedError, TinkerError
from tinker_actors.flow.patience import OutOfPatience, Patience
from tinker_actors.flow.reaction import Reaction, while_calling
from tinker_actors.ledger import Tasks
from tinker_actors.metrics import Metrics
from tinker_actors.sessions.version import SDK_VERSION
from tinker_actors.types import ClientDynamicConfig
from tinker_actors.wire.api import Api
from tinker_actors.wire.endpoints.futures import cancel_future
from tinker_actors.wire.endpoints.service import client_dynamic_config

__all__ = ["Cancellations"]

T = TypeVar("T")

_log = logging.getLogger("tinker_actors.sessions")

_WAITING = 4096  # the oldest are forgotten first: they are the likeliest to be done
_AT_ONCE = 64
_WITHIN = 30.0
"""Seconds of tries; a sample that can't be taken back by then is as good as computed."""


@final
class Cancellations:
    """A plain object on the session's place. ``give_up`` never waits; tasks of the runtime's do the rest.

    The server is asked whether it offers this when the first sample is given up, and again when its answer is older
    than it says: a session that gives nothing up asks for nothing. Nothing of this is told to anybody but the log,
    since the server ends what is left with its session.
    """

    def __init__(
        self,
        api: Api,
        tasks: Tasks,
        metrics: Metrics,
        *,
        new_key: Callable[[], str],
        patience: Callable[[], Patience],
        over: Callable[[], bool],
    ) -> None:
        self._api = api
        self._tasks = tasks
        self._metrics = metrics
        self._new_key = new_key
        self._patience = patience
        self._over = over
        self._waiting: deque[str] = deque(maxlen=_WAITING)
        self._working = 0
        self._config = ClientDynamicConfig()
        self._asked_until = float("-inf")
        self._asking = trio.Lock()

    def give_up(self, request_id: str) -> None:
        """Nobody waits for the sample that was promised as ``request_id``."""
        if self._over() or (self._fresh() and not self._config.sample_cancel_enabled):
            return
        self._waiting.append(request_id)
        if self._working < self._at_once():
            with suppress(ClosedError):  # the runtime is ending, and its sessions with it
                self._tasks.start("cancel samples", self._work)
                self._working += 1

    @contextmanager
    def unless_settled(self, request_id: str) -> Generator[None]:
        """Give the sample up when the block is left without its result, or the server's word that there is none."""
        try:
            yield
        except RequestFailedError:
            raise
        except OutOfPatience as gone:
            if gone.reaction is not Reaction.LOST:
                self.give_up(request_id)
            raise
        except BaseException:
            self.give_up(request_id)
            raise

    def _fresh(self) -> bool:
        return trio.current_time() < self._asked_until

    def _at_once(self) -> int:
        return max(1, min(self._config.sample_cancel_max_batch_size, _AT_ONCE))

    async def _work(self) -> None:
        try:
            while self._waiting and not self._over():
                if not await self._offered():
                    break
                if self._waiting:  # others work, too
                    await self._cancel(self._waiting.popleft())
            else:
                return
            self._waiting.clear()
        finally:
            self._working -= 1

    async def _offered(self) -> bool:
        async with self._asking:
            if not self._fresh():
                # where it does not say, what it said before counts on
                with _best_effort("whether samples can be cancelled is not known"):
                    self._config = await self._persist(lambda: client_dynamic_config(self._api, SDK_VERSION))
                self._asked_until = trio.current_time() + self._config.refresh_interval
            return self._config.sample_cancel_enabled

    async def _cancel(self, request_id: str) -> None:
        key = self._new_key()
        with _best_effort(f"the sample {request_id} was not cancelled"):
            await self._persist(lambda: cancel_future(self._api, request_id, key=key))
            self._metrics.add("samples_cancelled")

    async def _persist(self, attempt: Callable[[], Awaitable[T]]) -> T:
        try:
            with trio.fail_after(_WITHIN):
                return await self._patience().persist(attempt, while_calling, lambda _: None)
        except trio.TooSlowError:
            self._waiting.clear()  # a server in such a state is not asked for the rest, one after the other
            raise APITimeoutError(f"no usable answer for {_WITHIN:.0f} s", sent=True) from None


@contextmanager
def _best_effort(otherwise: str) -> Generator[None]:
    try:
        yield
    except (TinkerError, OutOfPatience) as error:
        cause = error.error if isinstance(error, OutOfPatience) else error
        _log.info("%s: %s", otherwise, cause)
