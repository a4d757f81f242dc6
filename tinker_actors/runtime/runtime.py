"""``open_runtime``: everything a program needs, in one supervised tree."""

from __future__ import annotations

import logging
import math
import os
import random
import sys
from collections.abc import Callable, Mapping
from typing import TextIO, final
from weakref import WeakSet

import trio
from msgspec import structs

from supervision import (
    Actor,
    ActorCrashed,
    ActorDegraded,
    ActorRef,
    ActorRestarted,
    ActorSystem,
    ChildSpec,
    DynamicSupervisorSpec,
    Event,
    Mailbox,
    SupervisorRef,
    SupervisorSpec,
    TaskSupervisor,
    TreeSnapshot,
)
from tinker_actors.checks import text, texts
from tinker_actors.clients.closing import closed_as_such, stop_child
from tinker_actors.clients.exporting import export_weights
from tinker_actors.clients.own import OwnClients
from tinker_actors.clients.rest import Account, RestClient, start_rest_client
from tinker_actors.clients.sampler_handle import SamplerHandle
from tinker_actors.clients.sampling import SamplingClient
from tinker_actors.clients.service import ServiceClient
from tinker_actors.clients.service_actor import ServiceActor
from tinker_actors.clients.spec import client_spec
from tinker_actors.config import CheckpointPolicy, Config, Secret, parse_api_key
from tinker_actors.config.fields import check
from tinker_actors.errors import TinkerError
from tinker_actors.flow.home import Home
from tinker_actors.flow.pending import Pending, PendingTable
from tinker_actors.flow.rate_limit import RateLimiter, RateLimiters
from tinker_actors.ledger import Future, Spiller, SpillStore, Tasks
from tinker_actors.metrics import Metrics, ModelUsage, Price, Usage, cost_of
from tinker_actors.ports import Disk, Offload, Points
from tinker_actors.ports.spans import Spans
from tinker_actors.recovery import Recovery
from tinker_actors.recovery.jobs import Budget, Capture, JobBlock, JobHome, JobOptions
from tinker_actors.recovery.tree import start_recovery
from tinker_actors.runtime.dump import DumpOnSignal, render
from tinker_actors.runtime.joining import Joined, Joining, check_handle
from tinker_actors.runtime.long_waits import LongWaits
from tinker_actors.runtime.stalls import Stalls
from tinker_actors.sessions import (
    CheckpointKeeper,
    Heartbeat,
    QueueObserver,
    Session,
    SessionEnd,
    SessionJoiner,
    SessionManager,
)
from tinker_actors.telemetry import RuntimeTelemetry, Telemetry, TelemetrySource
from tinker_actors.tokenizers.cache import TokenizerCache
from tinker_actors.types import TinkerPath
from tinker_actors.wire.api import Api

__all__ = ["Runtime"]

_log = logging.getLogger("tinker_actors.runtime")


@final
class Runtime:
    """The way in. Made by ``open_runtime``; everything in it ends with that block."""

    def __init__(
        self,
        system: ActorSystem,
        sessions: SupervisorRef,
        tasks: TaskSupervisor,
        config: Config,
        api: Api,
        *,
        rest: SupervisorRef,
        rng: random.Random,
        points: Points,
        offload: Offload,
        disk: Disk,
        store: SpillStore | None,
        metrics: Metrics,
        reports: random.Random,
        spans: Spans,
    ) -> None:
        self._system = system
        self._sessions = sessions
        self._config = config
        self._api = api
        self._random = rng
        self._points = points
        self._spans = spans
        self._offload = offload
        self._disk = disk
        self._store = store
        self._tokenizers = TokenizerCache(offload)
        self._pending = PendingTable()
        self._tasks = Tasks(tasks, self._pending)
        self._metrics = metrics
        self._reports = TelemetrySource(
            api,
            enabled=config.telemetry_enabled,
            rng=reports,
            sdk_version=SessionManager.sdk_version,
            metrics=metrics,
            pending=self._pending,
            points=points,
        )
        self._usage = Usage()
        self._limiters = RateLimiters(random.Random(rng.getrandbits(64)))
        self._limiter = self._limiter_of(config.api_key)
        self._account = Account(
            rest,
            api=api,
            config=config,
            sdk_version=SessionManager.sdk_version,
            rng=random.Random(rng.getrandbits(64)),
            pending=self._pending,
            tasks=self._tasks,
            offload=offload,
            metrics=metrics,
            export=self._export,
        )
        self._opened = 0
        self._home = Home()
        self._open: WeakSet[Session] = WeakSet()
        self._jobs: SupervisorRef | None = None
        self._own_clients = OwnClients()
        self._recovery: Recovery | None = None
        self._joining = Joining(self._join)

    @property
    def config(self) -> Config:
        """The configuration that it works by; printing it shows no secret."""
        return self._config

    @property
    def system(self) -> ActorSystem:
        """The actor system beneath: its events, its registry, actors of your own."""
        return self._system

    @property
    def recovery(self) -> Recovery:
        """Watches runs of other programs, and recovers what its server has lost into new clients."""
        assert self._recovery is not None, "open_runtime starts it"
        return self._recovery

    async def create_service_client(
        self,
        *,
        user_metadata: Mapping[str, str] | None = None,
        tags: tuple[str, ...] | None = None,
        project_id: str | None = None,
    ) -> ServiceClient:
        """Open a session at the server, in the project ``project_id`` or the configuration's.

        Returns once the server has created it. Raises the last APIError when it has not within the
        configuration's ``start_bound``.
        """
        return await self._create_service_client(
            user_metadata=user_metadata, tags=tags, project_id=project_id, usage=self._usage
        )

    def create_service_client_async(
        self,
        *,
        user_metadata: Mapping[str, str] | None = None,
        tags: tuple[str, ...] | None = None,
        project_id: str | None = None,
    ) -> Future[ServiceClient]:
        """``create_service_client``, started at once in a task of the runtime's."""
        self._home.require("the runtime")
        return self._tasks.start(
            "create_service_client",
            lambda: self.create_service_client(user_metadata=user_metadata, tags=tags, project_id=project_id),
        )

    async def _export(self, path: TinkerPath) -> str:
        async with await self.create_service_client() as service:
            return await export_weights(service, path)

    async def _create_service_client(
        self,
        *,
        user_metadata: Mapping[str, str] | None,
        tags: tuple[str, ...] | None,
        project_id: str | None,
        usage: Usage,
    ) -> ServiceClient:
        self._home.require("the runtime")
        metadata = texts("user_metadata", user_metadata)
        labels = self._config.tags if tags is None else tuple([text("tags", tag, "Give strings") for tag in tags])
        project = self._config.project_id if project_id is None else check("project_id", project_id)
        name = f"session-{self._opened}"
        self._opened += 1
        telemetry = self._reports.open()
        session = self._session(
            name,
            random.Random(self._random.getrandbits(64)),
            self._config,
            user_metadata=dict(self._config.user_metadata) | metadata,
            tags=labels,
            project_id=project,
            telemetry=telemetry,
            usage=usage,
        )
        try:
            with closed_as_such("create_service_client"):
                place, clients = await self._start(session, ChildSpec("manager", lambda: SessionManager(session)))
                ref = await clients.start_child(client_spec("service", lambda: ServiceActor(session)))
        except BaseException:
            with trio.CancelScope(shield=True):
                await stop_child(self._sessions, name)
            raise
        return ServiceClient(
            session, ref, place, clients, self._sessions, account=self._account, own=self._own_clients
        )

    def job(
        self,
        name: str,
        *,
        base_model: str,
        rank: int = 32,
        seed: int | None = None,
        steps: int | None = None,
        train_mlp: bool = True,
        train_attn: bool = True,
        train_unembed: bool = True,
        updates_per_step: int = 1,
        checkpoints: CheckpointPolicy | None = None,
        budget: Budget | None = None,
        folder: str | os.PathLike[str] | None = None,
        user_metadata: Mapping[str, str] | None = None,
        capture: Capture = "update",
        catch_signals: bool = True,
    ) -> JobBlock:
        """A training run that goes on where it was when the same program runs again: ``async with ... as job``.

        It has a folder of its own, ``name`` in ``folder`` (by default what TINKER_ACTORS_JOBS names, or ./jobs), and
        a session and a training client of its own: a new model of ``base_model``, as ``create_lora_training_client``
        makes it, or the one that the folder's record tells of. ``steps`` is how many it is to have (None: as many as
        the program likes), each with ``updates_per_step`` optim_steps; what the job tracks is recorded as it is with
        the last of them, or at the step's end with ``capture`` "step". ``checkpoints`` says when it is saved and
        recorded, by default each ten minutes; ``budget`` what it may use. The first Ctrl-C, or SIGTERM, lets it stop
        after the step that is being done, with a checkpoint; the second ends the process. ``catch_signals`` False
        leaves signals alone. docs/jobs.md tells all of it.

        Raises InvalidInput for bad values. Entering it raises JobInUse where another process runs the job, JobChanged
        where it was begun with other values, JobError where it can't go on, DiskError where its folder can't be used.
        """
        self._home.require("the runtime")
        options = JobOptions(
            name=name,
            base_model=base_model,
            rank=rank,
            seed=seed,
            steps=steps,
            train_mlp=train_mlp,
            train_attn=train_attn,
            train_unembed=train_unembed,
            updates_per_step=updates_per_step,
            checkpoints=checkpoints,
            budget=budget,
            folder=folder,
            user_metadata=user_metadata,
            capture=capture,
            catch_signals=catch_signals,
        )
        assert self._jobs is not None, "open_runtime starts it"
        home = JobHome(
            keepers=self._jobs,
            disk=self._disk,
            pending=self._pending,
            policy=None if self._config.recovery is None else self._config.recovery.checkpoints,
            base_url=self._config.base_url,
            create_service=self._create_service_of_a_job,
            draw_seed=lambda: self._random.getrandbits(31),
            scores=self.recovery.scores,
        )
        return JobBlock(home, options)

    async def _create_service_of_a_job(self, user_metadata: Mapping[str, str]) -> ServiceClient:
        return await self._create_service_client(
            user_metadata=user_metadata, tags=None, project_id=None, usage=Usage(self._usage)
        )

    async def create_sampling_client_from_handle(self, handle: SamplerHandle) -> SamplingClient:
        """A client of the weights that another process samples from, by what ``get_sampler_handle()`` gave there.

        It takes part in that process's session with heartbeats of its own, never ends it, and numbers its samples
        apart. The same handle gives the same client until that is closed. Raises InvalidInput for what is no handle,
        or one of another server, and the last APIError when the server does not answer.
        """
        self._home.require("the runtime")
        handle = check_handle(handle, self._config.base_url)
        with closed_as_such("create_sampling_client_from_handle"):
            return await self._joining.sampling_client(handle)

    def create_sampling_client_from_handle_async(self, handle: SamplerHandle) -> Future[SamplingClient]:
        """``create_sampling_client_from_handle``, started at once in a task of the runtime's."""
        handle = check_handle(handle, self._config.base_url)
        return self._tasks.start(
            "create_sampling_client_from_handle", lambda: self.create_sampling_client_from_handle(handle)
        )

    async def _join(self, session_id: str, rng: random.Random) -> Joined:
        name = f"joined-{self._opened}"
        self._opened += 1
        # one that is lost is its owner's to renew
        config = structs.replace(self._config, recovery=None)
        session = self._session(name, rng, config, user_metadata={}, tags=(), project_id=None, telemetry=None)
        _, clients = await self._start(session, ChildSpec("joiner", lambda: SessionJoiner(session, session_id)))
        return Joined(session, clients)

    def _session(
        self,
        name: str,
        rng: random.Random,
        config: Config,
        *,
        user_metadata: Mapping[str, str],
        tags: tuple[str, ...],
        project_id: str | None,
        telemetry: Telemetry | None,
        usage: Usage | None = None,
    ) -> Session:
        session = Session(
            name,
            config=config,
            api=self._api,
            rng=rng,
            pending=self._pending,
            tasks=self._tasks,
            metrics=self._metrics,
            usage=self._usage if usage is None else usage,
            points=self._points,
            offload=self._offload,
            store=self._store,
            tokenizers=self._tokenizers,
            limiter=self._limiter,
            user_metadata=user_metadata,
            tags=tags,
            project_id=project_id,
            telemetry=telemetry,
            spans=self._spans,
        )
        self._open.add(session)  # now: a key that is renewed while the session is made is its key, too
        return session

    async def _start(self, session: Session, manager: ChildSpec) -> tuple[SupervisorRef, SupervisorRef]:
        spec = SupervisorSpec(
            session.name,
            strategy="one_for_one",
            children=[
                *self._reports.specs(session.telemetry),
                manager,
                ChildSpec("heartbeat", lambda: Heartbeat(session)),
                ChildSpec(
                    "queue-observer",
                    lambda: QueueObserver(session.queue_subscriptions),
                    mailbox=Mailbox(capacity=math.inf),
                    max_restarts=10,
                    max_seconds=60.0,
                ),
                ChildSpec("checkpoints", lambda: CheckpointKeeper(session), max_restarts=10, max_seconds=60.0),
                DynamicSupervisorSpec("clients"),
            ],
            on_intensity="degrade",
        )
        place = await self._sessions.start_child(spec)
        observer, clients = place.child("queue-observer"), place.child("clients")
        assert isinstance(observer, ActorRef)
        session.queue_observer = observer
        assert isinstance(clients, SupervisorRef)
        return place, clients

    async def create_rest_client(self) -> RestClient:
        """A client of what the caller has at the server: training runs, checkpoints, sessions, usage. No session.

        Raises the last APIError when the server has not answered within the configuration's ``start_bound``.
        """
        return await start_rest_client(self._account)

    def create_rest_client_async(self) -> Future[RestClient]:
        """``create_rest_client``, started at once in a task of the runtime's."""
        return self._tasks.start("create_rest_client", self.create_rest_client)

    def renew_api_key(self, api_key: str) -> None:
        """Use ``api_key`` from now on, and go on with every lane that was halted when the old one was refused.

        Raises CredentialError for something that can't be a key; nothing has changed then.
        """
        self._home.require("the runtime")
        key = parse_api_key(api_key)
        self._api.renew(key)
        self._limiter = self._limiter_of(key)
        for session in self._open:
            session.use_limiter(self._limiter)
            session.mend()

    def end_as(self, end: SessionEnd) -> None:
        """Finish the sessions that are open as ``end``. ``open_runtime`` calls it when its block raises."""
        for session in self._open:
            session.end_as(end)

    def get_telemetry(self) -> RuntimeTelemetry:
        """Whether the server is told of sessions and errors, and what became of what it was to be told."""
        return self._reports.status()

    def end_tasks(self) -> None:
        """Let nobody wait for what can't come any more. ``open_runtime`` calls it when everything has ended."""
        self._tasks.close()

    def _lag(self, seconds: float) -> None:
        self._metrics.observe("loop_lag_seconds", seconds)

    def _hear(self, event: Event) -> None:
        if isinstance(event, ActorRestarted):
            self._metrics.add("actor_restarts")
        elif isinstance(event, ActorCrashed):
            if event.starting and isinstance(event.crash.error, TinkerError):
                _log.info("%s did not start: %s", event.path, event.crash.text)  # who asked for it gets the error
            else:
                _log.warning("%s crashed: %s", event.path, event.crash.text)
        elif isinstance(event, ActorDegraded):
            _log.error("%s crashed too often and is given up", event.path)

    def _limiter_of(self, key: Secret | None) -> RateLimiter:
        # what a credential command prints may change at any time: all of its keys count as one
        return self._limiters.limiter(self._config.base_url, "" if key is None else key.reveal())

    def pending(self) -> tuple[Pending, ...]:
        """Everything that is under way and has not finished, oldest first, each with its state and reason."""
        return self._pending.snapshot()

    def counters(self) -> dict[str, int]:
        """How often things happened: sends, polls, operations_done, samples_done, heartbeats, ..."""
        return self._metrics.counters()

    @property
    def metrics(self) -> Metrics:
        """Counters, gauges and histograms of this runtime, to read or to add to; docs/metrics.md lists its own."""
        return self._metrics

    def usage(self) -> dict[str, ModelUsage]:
        """Tokens trained on, read in prompts and sampled, by base model, of all results that have come."""
        return self._usage.snapshot()

    def cost(self, prices: Mapping[str, Price]) -> float:
        """What ``usage()`` costs by ``prices``, by base model. Raises InvalidInput for a model without a price."""
        return cost_of(self.usage(), prices)

    def tree(self) -> TreeSnapshot:
        """The supervision tree now: each actor's state, mailbox, message in hand and restarts."""
        return self._system.tree()

    def dump(self, file: TextIO | None = None) -> None:
        """Write the tree and what is pending to ``file``, by default to the standard error output.

        SIGUSR1 does so, too, unless the program has a handler of its own for it (or runs trio outside of its main
        thread).
        """
        print(render(self.tree(), self.pending()), file=sys.stderr if file is None else file, flush=True)

    async def watch(self, stall_alarm: float | None) -> None:
        """Start what looks after the whole runtime. ``open_runtime`` calls it."""
        self._system.events.subscribe(self._hear)
        self._jobs = await self._system.start_child(DynamicSupervisorSpec("jobs"))
        self._recovery = await start_recovery(
            self._system,
            policy=self._config.recovery,
            clients=self._own_clients,
            api=self._api,
            pending=self._pending,
            tasks=self._tasks,
            offload=self._offload,
            metrics=self._metrics,
        )
        factories: dict[str, Callable[[], Actor]] = {
            "long-waits": lambda: LongWaits(self._pending),
            "dump-on-signal": lambda: DumpOnSignal(self.dump),
        }
        if stall_alarm is not None:
            factories["stalls"] = lambda: Stalls(stall_alarm, self._lag)
        for name, factory in factories.items():
            await self._system.start_child(ChildSpec(name, factory, max_restarts=3, max_seconds=60.0))
        if (store := self._store) is not None:
            spec = ChildSpec(
                "spill", lambda: Spiller(store), max_restarts=10, max_seconds=60.0, on_close=lambda _: store.give_up()
            )
            await self._system.start_child(spec)
