"""A lost model made good: another one, in a state that a checkpoint holds, or as the first was created."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import final

import trio

from tinker_actors.clients.training import operations
from tinker_actors.clients.training.creation import is_there, make_model, while_loading
from tinker_actors.clients.training.model import Model, Source, new_model
from tinker_actors.config import RecoveryPolicy
from tinker_actors.errors import (
    APIConnectionError,
    ModelLost,
    RequestFailedError,
)
from tinker_actors.flow.patience import OutOfPatience
from tinker_actors.flow.reaction import Reaction
from tinker_actors.ledger import Cover, NewModel, OperationKind, Rebuild
from tinker_actors.polling import Poller
from tinker_actors.server_class import ServerClass
from tinker_actors.sessions import Session
from tinker_actors.types import LoadWeightsResponse

__all__ = ["Rebuilder"]

_log = logging.getLogger("tinker_actors.clients")

_LOAD_SEQ_ID = 1
_JITTER = 0.25


@final
class Rebuilder:
    """Rebuilds one client's model, as its ledger's Rebuild says. What it decides is in the ledger before it is done,
    so that the next incarnation of the actor goes on where this one was. A model that was made and is given up is
    given to ``free``.
    """

    def __init__(self, session: Session, model: Model, policy: RecoveryPolicy, free: Callable[[str], object]) -> None:
        self._session = session
        self._model = model
        self._policy = policy
        self._free = free
        self._made: str | None = None
        self._poller: Poller = session.poller()

    async def run(self, rebuild: Rebuild) -> None:
        """Work until the ledger has its new model.

        Raises ModelLost when no state can be had, RequestFailedError or OutOfPatience when the server fails.
        """
        session, ledger = self._session, self._model.ledger
        delay = self._policy.delay(rebuild.attempt) * session.random.uniform(1.0 - _JITTER, 1.0)
        if delay:
            rebuild.explain(f"attempt {rebuild.attempt + 1} in {delay:.1f} s, since {rebuild.cause}")
            await trio.sleep(delay)
        while True:
            rebuild.explain(f"its session is being renewed, since {rebuild.cause}")
            await session.until_active()
            if rebuild.model is None or rebuild.model.generation != session.generation:
                self._made = None  # it is gone with its session
                rebuild.anew()
                rebuild.model = new_model(session)
            mended = session.mended.value
            try:
                if rebuild.cover is None:
                    rebuild.cover = await self._choose(rebuild)
                if await self._restore(rebuild, rebuild.model, rebuild.cover):
                    return
            except OutOfPatience as gone:
                if gone.reaction is Reaction.RENEW:
                    if session.mended.value == mended:
                        ledger.halt(gone.error)
                    await ledger.until_resumed()
                elif gone.reaction in (Reaction.LOST, Reaction.ARRIVED, Reaction.UNKNOWN):
                    await session.confirm()
                    self._anew(rebuild)
                    self._count(rebuild, gone.error)
                else:
                    raise
            except RequestFailedError as error:
                self._anew(rebuild)
                self._count(rebuild, error)

    def _anew(self, rebuild: Rebuild) -> None:
        made, self._made = self._made, None
        rebuild.anew()
        if made is not None:
            self._free(made)

    def _count(self, rebuild: Rebuild, error: Exception) -> None:
        rebuild.failures += 1
        if rebuild.failures >= self._policy.max_attempts:
            raise ModelLost(
                f"the model of {self._model.ledger.name} could not be rebuilt, since {rebuild.cause}: {error}",
                operation=self._model.ledger.name,
            ) from error

    async def _choose(self, rebuild: Rebuild) -> Cover:
        """The newest state that is there."""
        session, name = self._session, self._model.ledger.name
        for cover in self._model.ledger.covers():
            if cover in rebuild.refused:
                continue
            # one that is another's can only be tried: /weights_info takes no token
            if cover.path is None or cover.access_token is not None:
                return cover
            if await is_there(session, name, cover.path, self._poller, rebuild.entry):
                return cover
            rebuild.refused.add(cover)
        raise ModelLost(
            f"the model of {self._model.ledger.name} can't be rebuilt, since {rebuild.cause}: there is no checkpoint "
            "after which everything is kept that was done. Create a new client and load a checkpoint; save the state "
            "more often, or keep more (recovery.replay_bytes, spill_bytes)",
            operation=self._model.ledger.name,
        )

    async def _restore(self, rebuild: Rebuild, new: NewModel, cover: Cover) -> bool:
        """Make the model and give it the state; False when the state can't be loaded."""
        session, model, ledger = self._session, self._model, self._model.ledger
        rebuild.explain(f"a new model is being created, since {rebuild.cause}")
        source = None
        if cover.path is not None and model.source is not None:
            source = Source(cover.path, cover.optimizer, cover.access_token)
        try:
            made = await make_model(session, model, new, poller=self._poller, entry=rebuild.entry, source=source)
        except OutOfPatience as gone:
            if source is None or gone.reaction not in (Reaction.FAIL, Reaction.RECHECK):
                raise
            self._refuse(rebuild, cover, gone.error)
            return False
        except RequestFailedError as error:
            if source is None:
                raise
            self._refuse(rebuild, cover, error)
            return False
        model_id, next_seq_id = made.model_id, made.next_seq_id
        self._made = model_id
        if cover.path is not None and source is None:
            rebuild.explain(f"loading {cover.path}, since {rebuild.cause}")
            try:
                await self._load(rebuild, new, cover, model_id)
            except RequestFailedError as error:
                self._refuse(rebuild, cover, error)
                return False
            except OutOfPatience as gone:
                if gone.reaction not in (Reaction.FAIL, Reaction.RECHECK):
                    raise
                self._refuse(rebuild, cover, gone.error)
                return False
            next_seq_id = _LOAD_SEQ_ID + 1
        replays = model.to_replay(cover, session)
        _log.warning(
            "%s goes on as %s from %s, applying %d operations again, since %s",
            *(ledger.name, model_id, cover, len(replays), rebuild.cause),
        )
        ledger.resume_from(model_id, new.generation, next_seq_id, replays)
        return True

    def _refuse(self, rebuild: Rebuild, cover: Cover, error: Exception) -> None:
        _log.warning("%s: the checkpoint %s can't be loaded: %s", self._model.ledger.name, cover, error)
        rebuild.refused.add(cover)
        self._anew(rebuild)

    async def _load(self, rebuild: Rebuild, new: NewModel, cover: Cover, model_id: str) -> None:
        session, entry = self._session, rebuild.entry
        assert cover.path is not None
        if rebuild.loading and session.server_class not in (ServerClass.DEDUP, ServerClass.ORDERED):
            crashed = APIConnectionError("this client crashed while the state was being loaded")
            raise OutOfPatience(Reaction.UNKNOWN, crashed, 0.0)
        rebuild.loading = True
        chunk = operations.load_chunk(cover.path, cover.access_token, optimizer=cover.optimizer)
        patience = self._poller.patience()
        promise = await patience.persist(
            lambda: operations.submit(
                session.api,
                chunk,
                model_id=model_id,
                seq_id=_LOAD_SEQ_ID,
                key=new.load_key,
                attempt=patience.tries,
            ),
            lambda error: while_loading(session, error),
            entry.explain,
        )
        await self._poller.result(
            promise.request_id,
            LoadWeightsResponse,
            entry,
            request_type=operations.REQUEST_TYPES[OperationKind.LOAD_STATE],
            point="training.restoring",
        )
