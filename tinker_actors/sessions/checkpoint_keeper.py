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
from tinker_actors.sessions.kept_checkpoints import KeptCheckpoint, KeptCheckpoints, SavedCheckpoint, StrayCheckpoint
from tinker_actors.sessions.session import Session
from tinker_actors.types import TinkerPath
from tinker_actors.wire.endpoints.checkpoints import delete_checkpoint, set_checkpoint_ttl
from tinker_actors.wire.endpoints.weights import weights_info

__all__ = ["CheckpointKeeper"]

_log = logging.getLogger("tinker_actors.sessions")

_TRIES = 3  # deletions of one checkpoint, each with the patience of a request
_LOOKED_AGAIN = 60.0  # seconds: what is under way has arrived by then
_GONE = (404, 410)
_UNKNOWN = (404, 405, 501)  # what servers say that know no expiry


class CheckpointKeeper(Actor):
    """Does what is due for the automatic checkpoints of all models of its session, one after the other, also for
    those that were given up and may have arrived.

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
                for stray in kept.to_sweep():
                    if kept.ledger.lost is None:
                        await self._sweep(kept, stray)
                for stray in kept.to_look_for():
                    if stray.look_at <= trio.current_time():
                        await self._look(kept, stray)
                for checkpoint in kept.all():
                    if checkpoint.renew_at <= trio.current_time():
                        await self._renew(kept, checkpoint)
            times = [one.renew_at for kept in session.checkpoints for one in kept.all()]
            times += [one.look_at for kept in session.checkpoints for one in kept.to_look_for()]
            due = min(times, default=math.inf)
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
        self._pruned(checkpoint.path)

    async def _sweep(self, kept: KeptCheckpoints, stray: StrayCheckpoint) -> None:
        """Delete what was given up and has arrived: nobody knows of it, and a later one is there."""
        session, key, place = self._session, self._session.new_key(), stray.place
        if stray.path not in kept.strays():
            return  # its name is the user's meanwhile
        error = await self._ask(
            "prune", kept, lambda: delete_checkpoint(session.api, place.run, place.checkpoint_id, key=key)
        )
        if error is None:
            _log.info("%s, which was given up, had been saved all the same, and is deleted", place)
            kept.settle(stray)
            self._pruned(stray.path)
        else:
            self._missed(kept, stray, error)

    async def _look(self, kept: KeptCheckpoints, stray: StrayCheckpoint) -> None:
        """The last save of a client that has stopped counts if it has arrived."""
        error = await self._ask("look for", kept, lambda: weights_info(self._session.api, stray.path))
        if error is None:
            kept.settle(stray, there=True)
            return
        stray.look_at = trio.current_time() + _LOOKED_AGAIN
        self._missed(kept, stray, error)

    def _missed(self, kept: KeptCheckpoints, stray: StrayCheckpoint, error: Exception) -> None:
        kept.looked(stray)
        if stray.looks >= _TRIES:
            if not (isinstance(error, APIStatusError) and error.status in _GONE):
                _log.warning("whether %s was saved, which was given up, can't be known: %s", stray.path, error)
            kept.settle(stray)

    def _pruned(self, path: str) -> None:
        self._session.metrics.add("checkpoints_pruned")
        self._emit(CheckpointPruned(self.context.path, path))

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
        self, what: str, kept: KeptCheckpoints, request: Callable[[], Awaitable[object]]
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
