"""The Session: what one session's actors share and what survives their restarts."""

from __future__ import annotations

import logging
import random
from collections.abc import Mapping
from contextlib import suppress
from enum import StrEnum
from typing import final

import trio
from trio_util import AsyncValue, wait_any  # pyright: ignore[reportUnknownVariableType]  # its own gap

from supervision import ActorRef, NotRunning
from tinker_actors.codec.compression import compress
from tinker_actors.config import Config, RetryConfig
from tinker_actors.errors import APIError, APITimeoutError, ClosedError, InvalidInput, ModelLost
from tinker_actors.flow.home import Home
from tinker_actors.flow.patience import OutOfPatience
from tinker_actors.flow.pending import PendingEntry, PendingTable
from tinker_actors.flow.queue_state import ClientQueue, Observer, QueueSubscription
from tinker_actors.flow.rate_limit import RateLimiter
from tinker_actors.flow.reaction import Reaction
from tinker_actors.flow.retry import RetryHandler
from tinker_actors.flow.rounds import Rounds
from tinker_actors.ledger import Ledger, Shown, SpillStore, Tasks
from tinker_actors.metrics import Metrics, Usage
from tinker_actors.polling import Poller
from tinker_actors.ports import Offload, Points
from tinker_actors.ports.spans import NO_SPANS, Spans
from tinker_actors.server_class import ServerClass
from tinker_actors.sessions.cancellations import Cancellations
from tinker_actors.sessions.ending import SessionEnd
from tinker_actors.sessions.kept_checkpoints import KeptCheckpoints
from tinker_actors.sessions.limits import SessionLimits
from tinker_actors.sessions.queue_observer import Observe
from tinker_actors.telemetry import Telemetry
from tinker_actors.tokenizers.cache import TokenizerCache
from tinker_actors.types import ClientConfig
from tinker_actors.wire.api import Api

__all__ = ["Session", "SessionState"]

_log = logging.getLogger("tinker_actors.sessions")
_SHOWN_KEPT = 4096  # paths: a job of weeks must not grow by each of its saves


class SessionState(StrEnum):
    """creating -> active <-> renewing, then finished | lost.

    renewing: the server has ended the session and another one is being created in its place.
    """

    CREATING = "creating"
    ACTIVE = "active"
    RENEWING = "renewing"
    FINISHED = "finished"
    LOST = "lost"


@final
class Session:
    """A plain object on the session's place.

    Numbers given out here (models, sampling sessions) are never given twice, whatever restarts. ``state`` is
    an AsyncValue: read it or wait for a change. ``generation`` counts the sessions that the server has ended: what
    belongs to an earlier one is gone there.
    """

    def __init__(
        self,
        name: str,
        *,
        config: Config,
        api: Api,
        rng: random.Random,
        pending: PendingTable,
        tasks: Tasks,
        metrics: Metrics,
        usage: Usage,
        points: Points,
        offload: Offload,
        tokenizers: TokenizerCache,
        limiter: RateLimiter,
        user_metadata: Mapping[str, str],
        tags: tuple[str, ...],
        project_id: str | None,
        telemetry: Telemetry | None = None,
        store: SpillStore | None = None,
        spans: Spans = NO_SPANS,
    ) -> None:
        self.name = name
        self.config = config
        self.api = api
        self.random = rng
        # Apart from what delays and keys draw, so that faults change no adapter and no sample.
        self.seeds = random.Random(rng.getrandbits(64))
        self.pending = pending
        self.tasks = tasks
        self.metrics = metrics
        self.usage = usage
        self.points = points
        self.offload = offload
        self.store = store
        self.tokenizers = tokenizers
        self._limiter = limiter
        self.user_metadata = user_metadata
        self.tags = tags
        self.project_id = project_id
        self.state: AsyncValue[SessionState] = AsyncValue(SessionState.CREATING)
        self.doubted: AsyncValue[bool] = AsyncValue(value=False)
        """Set when a client has met what may mean that the server has ended the session."""
        self.mended: AsyncValue[int] = AsyncValue(0)
        """How often another credential has taken the place of the one there was."""
        self.generation = 0
        self.renewal = Rounds()
        """The tries at another session, while this one is RENEWING."""
        self.beats_begun = 0
        self.beats_answered: AsyncValue[int] = AsyncValue(0)
        """The number of the latest beat to which the server has said that the session lives, or that it does not."""
        self.server_class: ServerClass | None = None
        """What the server does with a repeated training request; None until that is known."""
        self.class_lock = trio.Lock()
        """Held by the client that finds it out."""
        self.end: SessionEnd | None = None
        """What the server is to be told, once that is known."""
        self.ledgers: set[Ledger] = set()
        self.checkpoints: set[KeptCheckpoints] = set()
        """The automatic checkpoints of each of its models."""
        self.checkpoints_changed: AsyncValue[int] = AsyncValue(0)
        self._shown: dict[str, Shown] = {}
        self.home = Home()
        self.queue_subscriptions: set[QueueSubscription] = set()
        self.queue_observer: ActorRef | None = None
        self.telemetry = telemetry
        self.spans = spans
        self.cancellations = Cancellations(
            api,
            tasks,
            metrics,
            new_key=self.new_key,
            patience=lambda: self.poller().patience(),
            over=lambda: self.over,
        )
        """Samples that nobody waits for any more."""
        self._session_id: str | None = None
        self._server_config: ClientConfig | None = None
        self._limits: SessionLimits | None = None
        self._handler: RetryHandler | None = None
        self._models = 0
        self._samplers = 0

    @property
    def session_id(self) -> str:
        """The server's id; raises while there is none."""
        if self._session_id is None:
            raise ClosedError(f"session {self.name} has not been created yet")
        return self._session_id

    @property
    def created(self) -> bool:
        """True once the server has given an id."""
        return self._session_id is not None

    @property
    def server_config(self) -> ClientConfig:
        """What the server asks of its clients; defaults until it has said."""
        return self._server_config or ClientConfig()

    @property
    def limits(self) -> SessionLimits:
        """How much may be under way at once; by the defaults until the server has said."""
        if self._limits is None:
            self._limits = SessionLimits(self.server_config, self._limiter)
        return self._limits

    @property
    def over(self) -> bool:
        """Whether it has ended, and no other takes its place."""
        return self.state.value in (SessionState.FINISHED, SessionState.LOST)

    def show(self, path: str, shown: Shown) -> None:
        """The weights under ``path`` are those of ``shown``."""
        self._shown.pop(path, None)
        self._shown[path] = shown
        if len(self._shown) > _SHOWN_KEPT:
            del self._shown[next(iter(self._shown))]

    def shown(self, path: str) -> Shown | None:
        """Whose weights stand under ``path``, if one of this session's models has saved them of late."""
        return self._shown.get(path)

    def mend(self) -> None:
        """There is another credential: what waits for that goes on."""
        self.mended.value += 1
        for ledger in self.ledgers:
            ledger.resume()

    async def until_mended(self, mended: int) -> None:
        """Wait for another credential than the one that ``mended`` counts."""
        while self.mended.value == mended:
            await self.mended.wait_transition()  # pyright: ignore[reportUnknownMemberType]  # trio-util's own gap

    def use_limiter(self, limiter: RateLimiter) -> None:
        """The session's key is another one from now on: ``limiter`` is that of the new key."""
        self._limiter = limiter
        if self._limits is not None:
            self._limits.sampling.limiter = limiter

    def activate(self, session_id: str, server_config: ClientConfig) -> None:
        """The server has created the session."""
        if self._limits is None or server_config != self._server_config:  # permits are out when a session is renewed
            self._limits = SessionLimits(server_config, self._limiter)
        self._session_id = session_id
        self._server_config = server_config
        self.state.value = SessionState.ACTIVE
        if self.telemetry is not None:
            self.telemetry.begin(session_id)

    def learn_class(self, server_class: ServerClass, how: str) -> bool:
        """The server is of this class, which is known in the way that ``how`` says; False when that is no news."""
        if server_class is self.server_class:
            return False
        self.server_class = server_class
        _log.info("the server of session %s is of class %s: %s", self.name, server_class, how)
        return True

    def lose(self) -> None:
        """The server has ended the session: another one takes its place, or nothing does."""
        self.generation += 1
        self.renewal = Rounds()
        policy = self.config.recovery
        renewed = policy is not None and policy.covers("session_lost")
        self.state.value = SessionState.RENEWING if renewed else SessionState.LOST

    def finish(self) -> None:
        """The session is over by its user's will."""
        self.state.value = SessionState.FINISHED
        self.beats_answered.value += 1  # who waits for the next beat waits in vain

    async def until_active(self, entry: PendingEntry | None = None) -> str:
        """The session's id, as soon as it has one that lives; ``entry`` says that it is waited for.

        Raises as ``require_open`` does, and OutOfPatience when an outage has kept the server from giving another for
        as long as one may last.
        """
        renewal, due = self.renewal, self.renewal.due
        while self.state.value in (SessionState.CREATING, SessionState.RENEWING):
            if entry is not None:
                entry.enter("waiting", "its session is being renewed")
            if renewal is not self.renewal:
                renewal, due = self.renewal, self.renewal.due
            if (gone := renewal.outage(due)) is not None:
                raise OutOfPatience(gone.reaction, gone.error, gone.lasted, overdue=gone.overdue)
            await wait_any(self.state.wait_transition, renewal.failed.wait_transition)  # pyright: ignore[reportUnknownMemberType]  # trio-util's own gap
        return self.require_open()

    async def confirm(self) -> None:
        """Wait until the server has said, from now on, whether the session lives; for the outage bound at most.

        Raises OutOfPatience when it has answered nothing at all for half of that: nobody knows. One that answers
        others, and no beat, says nothing against the session.
        """
        due, bound = self.beats_begun + 1, self.config.outage_bound
        with trio.move_on_after(bound):
            while self.state.value is SessionState.ACTIVE and self.beats_answered.value < due:
                self.doubt()
                await self.beats_answered.wait_transition()  # pyright: ignore[reportUnknownMemberType]  # as above
            return
        if trio.current_time() - self.api.answered_at >= bound / 2:
            silent = APITimeoutError(f"no answer to whether session {self._session_id} lives", sent=True)
            raise OutOfPatience(Reaction.REPEAT, silent, bound, overdue=True)

    def pause_in_outage(self) -> float:
        """Seconds until something is tried again that has lasted as long as an outage may: the longest of the pauses
        between two tries.
        """
        retry = self.config.retry
        return retry.retry_delay_max * self.random.uniform(1.0 - retry.jitter_factor, 1.0)

    def end_as(self, end: SessionEnd) -> None:
        """Finish the session as ``end`` when it comes to that. The first one given counts, as at the server."""
        if self.end is None:
            self.end = end

    def doubt(self) -> None:
        """Have the Heartbeat ask now, and not at its next beat, whether the server still has the session."""
        if self.state.value is SessionState.ACTIVE:
            self.doubted.value = True

    def require_open(self) -> str:
        """The latest session id; ClosedError or ModelLost when the session is over and no other takes its place."""
        if self.state.value is SessionState.LOST:
            raise ModelLost(
                f"the server has ended session {self._session_id}. Open a new session and load the last checkpoint",
                trigger="session_lost",
            )
        if self.state.value is SessionState.FINISHED:
            raise ClosedError(f"session {self._session_id} was closed. Open a new one")
        return self.session_id

    def next_model_seq_id(self) -> int:
        """A number for a new model: 0, 1, 2, ..., each given once."""
        self._models += 1
        return self._models - 1

    def next_sampling_session_seq_id(self) -> int:
        """A number for a new sampling session: 0, 1, 2, ..., each given once."""
        self._samplers += 1
        return self._samplers - 1

    def observe(self, queue: ClientQueue, observer: Observer) -> QueueSubscription:
        """Have the session's QueueObserver tell ``observer`` of the changes of ``queue``."""
        if not callable(observer):
            raise InvalidInput("observer", f"{observer!r} can't be called", "Give a function of one QueueStateChange")
        if self.state.value is SessionState.FINISHED:
            raise ClosedError(f"session {self._session_id} was closed. Open a new one")
        subscription = queue.subscribe(observer)
        self.queue_subscriptions.add(subscription)
        if self.queue_observer is not None:
            with suppress(NotRunning):  # the session is ending
                self.queue_observer.cast_nowait(Observe(subscription))
        return subscription

    async def pack(self, body: tuple[bytes | memoryview, ...]) -> bytes:
        """One zstd frame of ``body``, made away from the loop: it takes some milliseconds for each megabyte."""
        return await self.offload.run(lambda: compress(body, "zstd"))

    def new_key(self) -> str:
        """An idempotency key, kept by one logical request for all its tries."""
        return f"tinker-actors-{self.random.getrandbits(128):032x}"

    def retry_handler(self, retry: RetryConfig | None = None) -> RetryHandler:
        """What a client's requests share while they are tried again, by ``retry`` or the session's configuration."""
        return RetryHandler(
            self.config.retry if retry is None else retry,
            self.random,
            outage_bound=self.config.outage_bound,
            billing_bound=self._billing_bound,
            max_retries=self.config.max_retries,
            on_retry=self._repeated,
        )

    @property
    def _billing_bound(self) -> float:
        policy = self.config.recovery
        if policy is not None and policy.billing_pause is not None:
            return policy.billing_pause
        return self.server_config.billing_exception_max_pause_duration_sec

    def failed(self, operation: str, kind: str, error: BaseException) -> None:
        """An operation of this session has failed for good: the server is told where telemetry is on."""
        if self.telemetry is not None:
            self.telemetry.record_failure(operation, kind, error)

    def _repeated(self, error: APIError) -> None:
        self.metrics.add("retries")
        if self.telemetry is not None:
            self.telemetry.count_repeat(error)

    def poller(self, handler: RetryHandler | None = None) -> Poller:
        """A poller with the patience of ``handler``, or of the whole session."""
        if handler is None:
            handler = self._handler = self._handler or self.retry_handler()
        return Poller(
            self.api,
            handler,
            self.metrics,
            self.points,
            results=self.limits.results,
            poll_timeout=self.config.poll_timeout,
            backoff=self.config.poll_backoff,
        )
