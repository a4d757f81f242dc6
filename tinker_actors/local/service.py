"""The local service: sessions, models, samplers and promises around the engine, and the application in front.

async with open_service(ServerSettings(base_model="tinker-actors/tiny"), offload=..., random=...) as service:
    ...  # service.app is an ASGI application
"""

from __future__ import annotations

import logging
import random as random_module
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, final

import trio
from msgspec import structs

from supervision import ActorSystem, Backoff, ChildSpec, DynamicSupervisorSpec, SupervisorRef, open_system
from tinker_actors.errors import InvalidInput
from tinker_actors.local.activity import Activity
from tinker_actors.local.actors import ModelActor, SamplingActor
from tinker_actors.local.applied import AppliedLog, AppliedOperation
from tinker_actors.local.catalog import Catalog
from tinker_actors.local.clock import Now, trio_now
from tinker_actors.local.effects import Effects
from tinker_actors.local.engine import BaseModel, CreateModel, Engine
from tinker_actors.local.engine.losses.table import CUSTOM
from tinker_actors.local.futures import FutureTable, ServerFuture
from tinker_actors.local.janitor import CheckpointJanitor, Janitor
from tinker_actors.local.limits import Limits
from tinker_actors.local.model import Model, ModelRequest
from tinker_actors.local.owners import Owner, Owners, owns
from tinker_actors.local.recordings import Recordings
from tinker_actors.local.refusals import Refusal, gone, invalid, not_found, unavailable
from tinker_actors.local.reports import Reports
from tinker_actors.local.residency import LostState, ResidentModels, ResidentSnapshots
from tinker_actors.local.sample_queue import SampleQueue
from tinker_actors.local.sampler import Sampler, SamplerTable
from tinker_actors.local.session import Session, SessionTable
from tinker_actors.local.settings import ServerSettings
from tinker_actors.local.signatures import Signatures
from tinker_actors.local.spill import SpillFiles
from tinker_actors.local.storage import DirectoryStorage, MemoryStorage, RunRecord, SessionRecord, Storage
from tinker_actors.local.streams import Streams
from tinker_actors.local.tokens import Tokens
from tinker_actors.local.turns import Turns
from tinker_actors.ports import Offload
from tinker_actors.types import (
    CreateModelRequest,
    ForwardBackwardRequest,
    LoadWeightsRequest,
    ModelIdRequest,
    RequestErrorCategory,
    SampleRequest,
    SessionActive,
    SessionCancelled,
    SessionStatus,
)

if TYPE_CHECKING:
    from starlette.applications import Starlette

__all__ = ["LocalService", "open_service"]

_log = logging.getLogger("tinker_actors.local")
_PROMPT = Backoff(initial=0.05, factor=2.0, maximum=1.0)


@final
class LocalService:
    """One server's state. Made by ``open_service``; requests come through ``app``."""

    def __init__(
        self,
        settings: ServerSettings,
        *,
        offload: Offload,
        random: random_module.Random,
        now: Now,
        engine: Engine,
        bases: Mapping[str, BaseModel],
        catalog: Catalog,
        log: AppliedLog,
        files: SpillFiles,
        revoked: Sequence[str],
    ) -> None:
        self.settings = settings
        self.offload = offload
        self.random = random
        self.now = now
        self.bases = bases
        self.catalog = catalog
        self.engine = engine
        self.futures = FutureTable(f"{random.getrandbits(32):08x}", settings.result_retention)
        self.owners = Owners(settings, revoked)
        self.tokens = Tokens(random.getrandbits(256).to_bytes(32, "big"), self.owners, now, settings.jwt_lifetime)
        self.sessions = SessionTable(
            settings.session_expiry, lambda owner, name: catalog.session(owner, name) is not None
        )
        self.samplers = SamplerTable()
        self.reports = Reports(settings.max_reported_bytes)
        self.turns = Turns(settings.max_turns_per_second)
        self.samples = SampleQueue(self.turns)
        self.models: dict[str, Model] = {}
        self.limits = Limits(settings, self.sessions, self.models.values())
        self.signatures = Signatures(random.getrandbits(256).to_bytes(32, "big"), now)
        self.copying = trio.Lock()
        self.activity = Activity(now)
        self._recordings = Recordings(settings.max_recorded_tokens)
        self._log = log
        self.files = files
        self.resident = ResidentModels(engine, files, settings.max_models_in_memory)
        self._effects = Effects(
            engine,
            catalog,
            log,
            samplers=self.samplers,
            owners=self.owners,
            models=self.resident,
            snapshots=ResidentSnapshots(files, settings.max_snapshots_in_memory),
        )
        self.streams = Streams(self._effects, offload, self.activity, turns=self.turns, most=settings.max_streams)
        self._children: SupervisorRef | None = None
        self._system: ActorSystem | None = None
        self._app: Starlette | None = None

    @property
    def app(self) -> Starlette:
        """The ASGI 3 application."""
        if self._app is None:
            from tinker_actors.local.app import make_app

            self._app = make_app(self)
        return self._app

    @property
    def system(self) -> ActorSystem:
        """The actors behind."""
        assert self._system is not None
        return self._system

    def applied(self, model_id: str) -> tuple[AppliedOperation, ...]:
        """What took effect on the model in this process, in order."""
        return self._log.of(model_id)

    @property
    def log_failure(self) -> str | None:
        """Why the log of applied operations is no longer written to its file, if so."""
        return self._log.failure

    async def digest(self, model_id: str) -> str:
        """The digest of the model's weights now, or of its last ones when it was unloaded.

        The model is one of this process, whosever it is.
        """
        model = self.models[model_id]
        await model.created.wait()
        try:
            digest = await self.offload.run(partial(self._effects.digest, model))
        except LostState as lost:
            raise gone(f"model {model_id}: its weights were in a file, which can't be read: {lost}") from lost
        if digest is None:
            raise gone(f"model {model_id}: {model.closed}")
        return digest

    def find_model(self, owner: Owner, model_id: str) -> Model:
        """The owner's model of this process, open or not.

        Refuses with 410 one of an earlier process, with 400 a run that only holds a copy, and with 404 what never was
        or is another's.
        """
        model = self.models.get(model_id)
        if model is not None and owns(owner, model.run.owner):
            return model
        run = self.catalog.run(owner, model_id)
        if run is not None and run.copied_from is not None:
            cure = "Load its checkpoint into a new model"
            raise invalid("model_id", f"{model_id} only holds a copy of {run.copied_from}", cure)
        if run is not None:
            raise gone(
                f"model {model_id} ended when the server restarted; only its checkpoints are left. "
                "Create a new one and load the last checkpoint"
            )
        raise not_found(f"model {model_id!r}: there is no such model")

    def check_creation(self, run: RunRecord) -> None:
        """Raise InvalidInput when there can't be such a model."""
        self.engine.check(CreateModel(model_id=run.run_id, base_model=run.base_model, lora=run.lora))

    def check(self, model: Model, request: ModelRequest) -> None:
        """Raise InvalidInput when the model could not do this, whatever comes before it."""
        if isinstance(request, ForwardBackwardRequest):
            self.limits.check_tokens(request)
        self._effects.check(model, request)

    def filled(self, model: Model, request: ModelRequest) -> ModelRequest:
        """``request`` with what the server has recorded for it. Raises InvalidInput when it has not.

        Nor does it let a model use the custom loss of another session (WIRE 9.3).
        """
        if isinstance(request, ForwardBackwardRequest) and request.loss_fn == CUSTOM:
            loss_id = request.loss_fn_config.get("loss_id")
            if isinstance(loss_id, str) and not loss_id.startswith(f"{model.run.session_id}:loss:"):
                cure = "Create it first, in this session"
                raise InvalidInput("loss_fn_config['loss_id']", f"there is no loss {loss_id[:60]!r}", cure)
        if isinstance(request, ForwardBackwardRequest) and request.loss_fn == "stable_reinforce":
            return self._recordings.filled(model.run.session_id, request)
        return request

    def check_sample(self, sampler: Sampler, request: SampleRequest) -> None:
        """Raise InvalidInput when the sampler could not do this."""
        self.engine.check_sample(sampler.base_model, None, request)

    def cancel_sample(self, future: ServerFuture) -> None:
        """Let a sample that was not begun fail; one that was ends as it does."""
        for sample in self.samples.withdraw(lambda sample: sample.future is future):
            self.futures.fail(sample.future, "sample: its client has cancelled it", RequestErrorCategory.USER)

    async def start_model(
        self,
        session: Session,
        run: RunRecord,
        request: CreateModelRequest | LoadWeightsRequest,
        future: ServerFuture,
    ) -> None:
        """A model with its creation queued, and its actor. Registered before anything is waited for."""
        model = Model(run, self.futures, self.turns, server_class=self.settings.server_class)
        model.create(request, future)
        self.models[run.run_id] = model
        session.models.append(model)
        assert self._children is not None
        spec = ChildSpec(
            run.run_id,
            lambda: ModelActor(
                model, self._effects, self.futures, self.offload, turns=self.turns, activity=self.activity
            ),
            restart="transient",
            backoff=_PROMPT,
            max_restarts=10,
            max_seconds=60.0,
            on_close=lambda reason: model.close(f"its actor has ended ({reason})", abandon=True),
        )
        # its promise is given already: the model must not be left without an actor when this request is given up
        with trio.CancelScope(shield=True):
            await self._children.start_child(spec)

    def unload(self, model: Model) -> ServerFuture:
        """Free the model behind what it still has to do. Asked again, it gives the first promise."""
        if model.unloading is None:
            model.close("it was unloaded", abandon=False)
            model.unload(
                ModelIdRequest(model_id=model.model_id),
                self.futures.create(model.run.owner, model.run.session_id, f"unload_model of {model.model_id}"),
            )
        assert model.unloading is not None
        return model.unloading

    def find_sampler(self, owner: Owner, sampling_session_id: str) -> Sampler:
        """The owner's sampler, its session seen.

        Refuses with 410 when its session is over, and with 404 what never was or is another's.
        """
        sampler = self.samplers.find(sampling_session_id)
        if sampler is not None:
            self.sessions.get(owner, sampler.session_id)
            return sampler
        session_id, named, _ = sampling_session_id.rpartition(":sample:")
        if named:
            self.sessions.get(owner, session_id)
        raise not_found(f"sampling session {sampling_session_id!r}: there is no such sampling session")

    def status_of(self, record: SessionRecord) -> SessionStatus:
        """How the session is doing. One that nobody had ended when an earlier process did is cancelled."""
        if isinstance(record.status, SessionActive) and record.session_id not in self.sessions:
            return SessionCancelled(detail="the server restarted")
        return record.status

    async def change_session(self, session_id: str, change: Callable[[SessionRecord], SessionRecord]) -> None:
        """Keep what ``change`` makes of a session's record. Refuses with 503 when it can't be kept."""
        try:
            await self.offload.run(partial(self.catalog.change_session, session_id, change))
        except OSError as error:
            raise unavailable(f"the session could not be kept: {error}") from error

    async def end_session(self, session: Session, why: str, status: SessionStatus, *, abandon: bool) -> None:
        """Take no more of this session; unload its models behind what they still have to do (nothing: abandon).

        What ended it first counts. Refuses with 503 when ``status`` can't be kept; the session has ended then, too.
        """
        if session.ended is not None:
            return
        session.ended = why
        self._end(session, why, abandon=abandon)
        await self.forget_samplers()
        await self.change_session(session.session_id, lambda record: structs.replace(record, status=status))

    def _end(self, session: Session, why: str, *, abandon: bool) -> None:
        for model in session.models:
            if model.closed is None:
                model.close(f"its session {session.session_id} {why}", abandon=abandon)
                self.unload(model)
        if abandon:
            for sample in self.samples.withdraw(lambda sample: sample.sampler.session_id == session.session_id):
                error = f"sample: its session {session.session_id} {why}"
                self.futures.fail(sample.future, error, RequestErrorCategory.USER)
        for sampler in self.samplers.of_session(session.session_id):
            self.samplers.forget(sampler)
        self._recordings.forget(session.session_id)
        if abandon or not session.models:
            self.engine.forget_losses(session.losses)

    async def forget_samplers(self) -> None:
        """Drop the weights of samplers that are over and have nothing left to do."""
        busy = {sample.sampler for sample in self.samples.items()}
        await self.offload.run(partial(self._effects.forget_over, busy))

    async def _expire(self, session: Session) -> None:
        why = f"was silent for {self.settings.session_expiry:g} s"
        try:
            await self.end_session(session, why, SessionCancelled(detail=why), abandon=True)
        except Refusal as refusal:
            _log.error("session %s %s: %s", session.session_id, why, refusal.detail)

    @asynccontextmanager
    async def _running(self) -> AsyncGenerator[None]:
        seed = self.random.getrandbits(64)
        async with open_system("local-server", random=random_module.Random(seed)) as system:
            self._system = system
            models = await system.start_child(DynamicSupervisorSpec("models"))
            assert isinstance(models, SupervisorRef)
            self._children = models
            await system.start_child(
                ChildSpec(
                    "sampling",
                    lambda: SamplingActor(
                        self.samples,
                        self._effects,
                        self.futures,
                        self.offload,
                        turns=self.turns,
                        recordings=self._recordings,
                        activity=self.activity,
                        forget=self.forget_samplers,
                    ),
                    backoff=_PROMPT,
                )
            )
            await system.start_child(
                ChildSpec(
                    "janitor",
                    lambda: Janitor(self.sessions, self.futures, end=self._expire),
                )
            )
            await system.start_child(
                ChildSpec("checkpoint-janitor", lambda: CheckpointJanitor(self.catalog, self.offload, self.now))
            )
            yield


@asynccontextmanager
async def open_service(
    settings: ServerSettings,
    *,
    offload: Offload,
    random: random_module.Random,
    now: Now = trio_now,
    storage: Storage | None = None,
) -> AsyncGenerator[LocalService]:
    """A running service, which keeps what it keeps in ``storage``, by default as the settings say.

    ``offload`` runs what blocks; ``random`` gives ids and the seeds that clients leave open; ``now`` is the time of
    day for what people read. Raises InvalidInput for an unknown base model, an alias without a tokenizer or a
    directory in use.
    """
    engine = await offload.run(partial(_make_engine, settings))
    bases = await offload.run(lambda: {name: engine.base(name) for name in settings.offered})
    catalog = await offload.run(partial(_open_catalog, settings, now, storage))
    try:
        files = SpillFiles(settings.directory / "spilled" if settings.directory is not None else None)
        revoked = await offload.run(catalog.revoked_keys)
        log = AppliedLog(settings.directory / "applied.jsonl" if settings.directory is not None else None)
        try:
            service = LocalService(
                settings,
                offload=offload,
                random=random,
                now=now,
                engine=engine,
                bases=bases,
                catalog=catalog,
                log=log,
                files=files,
                revoked=revoked,
            )
            async with service._running():  # noqa: SLF001  # its own module
                yield service
        finally:
            log.close()
            files.close()
    finally:
        catalog.close()


def _make_engine(settings: ServerSettings) -> Engine:
    if not settings.aliases:
        return Engine()
    from tinker_actors.local.aliases import read_aliases

    return Engine(read_aliases(settings.aliases))


def _open_catalog(settings: ServerSettings, now: Now, storage: Storage | None) -> Catalog:
    if storage is not None:
        return Catalog(storage, now)
    if settings.directory is None:
        return Catalog(MemoryStorage(), now)
    settings.directory.mkdir(parents=True, exist_ok=True)
    return Catalog(DirectoryStorage(settings.directory), now)
