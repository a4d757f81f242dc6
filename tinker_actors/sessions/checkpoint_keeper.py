"""The CheckpointKeeper: deletes automatic checkpoints that nobody keeps, and puts off when the others expire."""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable

import trio

from supervision import Actor, Event
from tinker_actors.errors import APIStatusError, InvalidInput
from tinker_actors.flow.patience import OutOfPatience
from tinker_actors.flow.reaction import while_calling
from tinker_actors.sessions.events import CheckpointFailed, CheckpointPruned, CheckpointSaved
from tinker_actors.sessions.kept_checkpoints import KeptCheckpoint, KeptCheckpoints, SavedCheckpoint
from tinker_actors.sessions.session import Session
from tinker_actors.types import TinkerPath
from tinker_actors.wire.endpoints.checkpoints import delete_checkpoint, set_checkpoint_ttl

__all__ = ["CheckpointKeeper"]

_log = logging.getLogger("tinker_actors.sessions")

_TRIES = 3  # deletions of one checkpoint, each with the patience of a request
_GONE = (404, 410)
_UNKNOWN = (404, 405, 501)  # what servers say that know no expiry


class CheckpointKeeper(Actor):
    """Does what is due for the automatic checkpoints of all models of its session, one after the other.

    All of it is best effort: what fails is logged, tried again with the next change, and touches nobody. Nothing is
    deleted while a model is being rebuilt, which may need it.
    """

    def __init__(self, session: Session) -> None:
        self._session = session

    async def init(self) -> None:
        """Go on with what there is."""
        self.context.start_task(self._work, name="checkpoints")

    async def _work(self) -> None:
        session = self._session
        while True:
            seen = session.checkpoints_changed.value
            for kept in tuple(session.checkpoints):
                self._tell(kept)
                for checkpoint in kept.surplus():
                    if kept.ledger.lost is not None:
                        break  # the rebuild may need it, and changes something when it is done
                    if checkpoint in kept.surplus():  # still, after those before it
                        await self._prune(kept, checkpoint)
                for checkpoint in kept.all():
                    if checkpoint.renew_at <= trio.current_time():
                        await self._renew(kept, checkpoint)
            due = min((one.renew_at for kept in session.checkpoints for one in kept.all()), default=math.inf)
            with trio.move_on_at(due):
                while session.checkpoints_changed.value == seen:
                    await session.checkpoints_changed.wait_transition()  # pyright: ignore[reportUnknownMemberType]  # trio-util's own gap

    def _tell(self, kept: KeptCheckpoints) -> None:
        path = f"{self.context.path.rpartition('/')[0]}/clients/{kept.ledger.name.rpartition('/')[2]}"
        while kept.news:
            news = kept.news.popleft()
            if isinstance(news, SavedCheckpoint):
                self._emit(CheckpointSaved(path, news.path, news.step))
            else:
                self._emit(CheckpointFailed(path, *news))

    async def _prune(self, kept: KeptCheckpoints, checkpoint: KeptCheckpoint) -> None:
        session, key = self._session, self._session.new_key()
        place = _place(kept, checkpoint)
        if place is None:
            return
        gone = await self._ask("prune", kept, lambda: delete_checkpoint(session.api, *place, key=key))
        if gone is not None and not (isinstance(gone, APIStatusError) and gone.status in _GONE):
            checkpoint.tries += 1
            if checkpoint.tries < _TRIES:
                _log.info("%s could not be deleted, which will be tried again: %s", checkpoint.path, gone)
                return
            _log.warning("%s could not be deleted and stays: %s", checkpoint.path, gone)
            kept.forget(checkpoint.path)
            return
        kept.forget(checkpoint.path)
        session.metrics.add("checkpoints_pruned")
        self._emit(CheckpointPruned(self.context.path, checkpoint.path))

    async def _renew(self, kept: KeptCheckpoints, checkpoint: KeptCheckpoint) -> None:
        session, key = self._session, self._session.new_key()
        ttl = kept.policy.ttl_seconds
        checkpoint.renew_at = math.inf
        place = _place(kept, checkpoint)
        if ttl is None or place is None:
            return
        error = await self._ask("renew", kept, lambda: set_checkpoint_ttl(session.api, *place, ttl, key=key))
        if error is None:
            checkpoint.renew_at = trio.current_time() + ttl / 2
        elif isinstance(error, APIStatusError) and error.status in _UNKNOWN:
            _log.warning("the expiry of %s can't be put off at this server: %s", checkpoint.path, error)
        else:
            checkpoint.renew_at = trio.current_time() + ttl / 10
            _log.info("the expiry of %s could not be put off, which will be tried again: %s", checkpoint.path, error)

    async def _ask(
        self, what: str, kept: KeptCheckpoints, request: Callable[[], Awaitable[None]]
    ) -> Exception | None:
        session = self._session
        with session.pending.track(kept.ledger.name, what, "sent") as entry:
            entry.enter("sent", "best effort, nothing waits for it", expected=True)
            try:
                await session.poller().patience().persist(request, while_calling, entry.explain)
            except OutOfPatience as gone:
                return gone.error
        return None

    def _emit(self, event: Event) -> None:
        self.context.system.events.emit(event)


def _place(kept: KeptCheckpoints, checkpoint: KeptCheckpoint) -> tuple[str, str] | None:
    try:
        path = TinkerPath.parse(checkpoint.path)
    except InvalidInput as error:  # a server with forms of its own
        _log.warning("%s can't be deleted or kept alive: %s", checkpoint.path, error)
        kept.forget(checkpoint.path)
        return None
    return path.run, path.checkpoint_id
