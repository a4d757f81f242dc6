"""A model made at the server: the first one of a client, and each that takes the place of a lost one."""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable
from typing import Final, final

import msgspec
import trio

from tinker_actors.clients.training.model import Model, Source
from tinker_actors.errors import (
    APIError,
    APIStatusError,
    AuthenticationError,
    BadRequestError,
    InvalidInput,
    TinkerError,
    UnprocessableEntityError,
)
from tinker_actors.flow.patience import OutOfPatience
from tinker_actors.flow.pending import PendingEntry
from tinker_actors.flow.reaction import Reaction, by_class, while_calling, while_submitting
from tinker_actors.ledger import NewModel
from tinker_actors.polling import Poller
from tinker_actors.server_class import ServerClass
from tinker_actors.sessions import Session
from tinker_actors.types import (
    CreateModelRequest,
    CreateModelResponse,
    LoadWeightsRequest,
    LoadWeightsResponse,
    LoraConfig,
    Promise,
    UnloadModelResponse,
)
from tinker_actors.wire.endpoints.models import create_model, unload_model
from tinker_actors.wire.endpoints.weights import load_weights, weights_info

__all__ = ["MADE_ANEW", "Made", "free", "is_there", "make_model", "release", "undo", "unload", "while_loading"]

_log = logging.getLogger("tinker_actors.clients")

MADE_ANEW: Final = 5
"""Models in place of one of which it can't be known whether its state has been loaded."""
_DOUBLINGS = 3  # of the time that creating a model may take
_LOAD_SEQ_ID = 1
_MODEL_ID = re.compile(r"\bmodel[_ ]?id\b", re.IGNORECASE)
_SEED_BITS = 31
_USUAL_RANK = 32
_GONE = (400, 403, 404, 410)  # what servers say of a checkpoint that is not there, or not the caller's any more


class Made(msgspec.Struct, frozen=True):
    """A model that is there, and the seq_id that is due next."""

    model_id: str
    next_seq_id: int


async def make_model(
    session: Session,
    model: Model,
    new: NewModel,
    *,
    poller: Poller,
    entry: PendingEntry,
    source: Source | None = None,
) -> Made:
    """Create ``model`` at the server under the numbers of ``new``, with the weights of ``source`` or as it began.

    Raises OutOfPatience when there is none to be had, RequestFailedError when the server says that it failed. A model
    that was created and could not be loaded is unloaded again; when it can't be known whether it was (UNKNOWN), the
    next try needs other numbers.
    """
    model.begun = True
    maker = _Maker(session, model, new, poller, entry)
    origin = source if source is not None else model.source
    if origin is None:
        assert model.lora is not None
        return Made(await maker.create(model.base_model, model.lora), 1)
    try:
        return Made(await maker.create_by_load(origin), 1)
    except OutOfPatience as gone:
        if not _wants_a_model(gone.error):
            raise
        _log.info("%s: the server creates no model by loading (%s)", model.ledger.name, gone.error)
    return await maker.create_and_load(origin)


def _wants_a_model(error: APIError) -> bool:
    """Whether the server loads into models only, as it says by 422, or by 400 for want of an id (WIRE 11.1)."""
    if isinstance(error, UnprocessableEntityError):
        return True
    return isinstance(error, BadRequestError) and _MODEL_ID.search(error.detail) is not None


async def is_there(session: Session, name: str, path: str, poller: Poller, entry: PendingEntry) -> bool:
    """Whether the server has the checkpoint ``path``, as ``/weights_info`` says, which takes no access token.

    Raises OutOfPatience when it can't be known.
    """
    entry.explain(f"looking for {path}")
    patience = poller.patience()
    try:
        await patience.persist(lambda: weights_info(session.api, path), while_calling, entry.explain)
    except OutOfPatience as gone:
        if isinstance(gone.error, AuthenticationError):
            raise OutOfPatience(Reaction.RENEW, gone.error, gone.lasted) from None
        if isinstance(gone.error, APIStatusError) and gone.error.status in _GONE:
            _log.warning("%s: the checkpoint %s is not there: %s", name, path, gone.error)
            return False
        raise
    return True


def while_loading(session: Session, error: APIError) -> Reaction:
    """The reaction when the first request of a new model, a load, is being sent.

    UNKNOWN where it might be done once more, and later: then another model is needed.
    """
    known = session.server_class or ServerClass.NONE
    return by_class(while_submitting(error), error, known, _LOAD_SEQ_ID, doubted=False)


async def undo(session: Session, model: Model) -> None:
    """Free at the server what a creation that was given up has made, or may still make."""
    poller, name = session.poller(), model.ledger.name
    model_id = model.ledger.model_id
    if model_id is None:
        try:
            # the same numbers and key: the server tells of the model that there is, if any
            with session.pending.track(name, "create_model", "being undone") as entry:
                model_id = (await make_model(session, model, model.first, poller=poller, entry=entry)).model_id
        except (TinkerError, OutOfPatience) as error:
            _tell_unfreed(name, error)
            return
    await free(session, name, model_id, poller)


async def release(session: Session, model: Model, stop: Callable[[], Awaitable[object]], _kept: object) -> None:
    """The client of ``model`` was let go: once everything that was accepted is done, ``stop`` it, and free the model.

    ``_kept``, who made it, is not let go until then.
    """
    ledger = model.ledger
    for operation in ledger.unfinished():
        await operation.future.exception()
    await stop()
    if ledger.model_id is not None and not session.over:
        await free(session, ledger.name, ledger.model_id, session.poller())


async def unload(session: Session, name: str, model_id: str, poller: Poller) -> UnloadModelResponse | None:
    """Free a model at the server, behind what it still has to do; None where the server knows no such call.

    Raises OutOfPatience, RequestFailedError.
    """
    key = session.new_key()
    with session.pending.track(name, "unload_model", "sent") as entry:
        patience = poller.patience()
        began = trio.current_time()
        answer = await patience.persist(
            lambda: unload_model(session.api, model_id, key=key), while_submitting, entry.explain
        )
        if not isinstance(answer, Promise):
            return answer
        entry.enter("promised")
        return await poller.result(
            answer.request_id,
            UnloadModelResponse,
            entry,
            request_type="UnloadModel",
            point="training.unloading",
            roundtrip=trio.current_time() - began,
        )


@final
class _Maker:
    """One model's way into the world."""

    def __init__(self, session: Session, model: Model, new: NewModel, poller: Poller, entry: PendingEntry) -> None:
        self._session = session
        self._model = model
        self._new = new
        self._poller = poller
        self._entry = entry

    async def create(self, base_model: str, lora: LoraConfig) -> str:
        """A model as its adapter begins; its id."""
        session, new, entry = self._session, self._new, self._entry
        request = CreateModelRequest(
            session_id=session.require_open(),
            model_seq_id=new.seq_id,
            base_model=base_model,
            lora_config=lora,
            user_metadata=self._model.user_metadata or None,
            optimizer_config=self._model.optimizer,
        )
        patience = self._poller.patience()
        began = trio.current_time()
        promise = await patience.persist(
            lambda: create_model(
                session.api,
                request,
                key=new.key,
                attempt=patience.tries,
                # a server that loads the base model first may be about it when the first try is over
                timeout=session.config.timeout * 2 ** min(patience.tries, _DOUBLINGS),
            ),
            while_submitting,
            entry.explain,
        )
        entry.enter("promised")
        created = await self._poller.result(
            promise.request_id,
            CreateModelResponse,
            entry,
            request_type="CreateModel",
            point="training.creating",
            on_queue_state=self._model.queue.report,
            roundtrip=trio.current_time() - began,
        )
        return created.model_id

    async def create_by_load(self, source: Source) -> str:
        """A model of the shape and with the weights of a checkpoint, in one request (WIRE 2.4); its id."""
        session_id = self._session.require_open()
        request = LoadWeightsRequest(
            path=source.path,
            optimizer=source.optimizer,
            session_id=session_id,
            model_seq_id=self._new.seq_id,
            base_model=self._model.base_model or None,
            user_metadata=self._model.user_metadata or None,
            optimizer_config=self._model.optimizer,
            weights_access_token=source.access_token,
        )
        loaded = await self._load(request, self._new.key)
        # where the server does not say, the id is the one that clients make up themselves (WIRE 2.2)
        return loaded.model_id or f"{session_id}:train:{self._new.seq_id}"

    async def create_and_load(self, source: Source) -> Made:
        """As clients did before SDK 0.38: the checkpoint is described, a model of its shape created, and loaded."""
        session, model = self._session, self._model
        patience = self._poller.patience()
        info = await patience.persist(
            lambda: weights_info(session.api, source.path), while_calling, self._entry.explain
        )
        if model.base_model not in ("", info.base_model):
            problem = f"{model.base_model!r} is not that of {source.path}, which is {info.base_model!r}"
            raise InvalidInput("base_model", problem, "Leave base_model out")
        model.lora = model.lora or LoraConfig(
            rank=_USUAL_RANK if info.lora_rank is None else info.lora_rank,
            seed=session.seeds.getrandbits(_SEED_BITS),
            train_mlp=info.train_mlp is not False,
            train_attn=info.train_attn is not False,
            train_unembed=info.train_unembed is not False,
        )
        model_id = await self.create(info.base_model, model.lora)
        request = LoadWeightsRequest(
            path=source.path,
            optimizer=source.optimizer,
            model_id=model_id,
            seq_id=_LOAD_SEQ_ID,
            weights_access_token=source.access_token,
        )
        try:
            await self._load(request, self._new.load_key, lambda error: while_loading(session, error))
        except (TinkerError, OutOfPatience):
            await free(session, model.ledger.name, model_id, self._poller)
            raise
        return Made(model_id, _LOAD_SEQ_ID + 1)

    async def _load(
        self, request: LoadWeightsRequest, key: str, react: Callable[[APIError], Reaction] = while_submitting
    ) -> LoadWeightsResponse:
        api, patience = self._session.api, self._poller.patience()
        began = trio.current_time()
        promise = await patience.persist(
            lambda: load_weights(api, request, key=key, attempt=patience.tries), react, self._entry.explain
        )
        self._entry.enter("promised")
        return await self._poller.result(
            promise.request_id,
            LoadWeightsResponse,
            self._entry,
            request_type="LoadWeights",
            point="training.loading",
            roundtrip=trio.current_time() - began,
        )


async def free(session: Session, name: str, model_id: str, poller: Poller) -> None:
    """As ``unload``, as well as it can be done: what is left, the server frees with its session."""
    try:
        await unload(session, name, model_id, poller)
    except (TinkerError, OutOfPatience) as error:
        _tell_unfreed(name, error)


def _tell_unfreed(name: str, error: TinkerError | OutOfPatience) -> None:
    cause = error.error if isinstance(error, OutOfPatience) else error
    _log.info("%s: its model was not freed, which its session's end will do: %s", name, cause)
