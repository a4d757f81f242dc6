"""The ServiceClient: one session at a server, and the way to its other clients."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar, final

import msgspec
import trio

from supervision import ActorRef, SupervisorRef
from tinker_actors.checks import flag, text, texts
from tinker_actors.clients.closing import closed_as_such, stop_child
from tinker_actors.clients.downloading import CheckpointDownloads, Downloads
from tinker_actors.clients.exporting import export_weights
from tinker_actors.clients.letting_go import released_when_gone
from tinker_actors.clients.outage import creation_failure
from tinker_actors.clients.own import OwnClients
from tinker_actors.clients.rest import Account, RestClient, start_rest_client
from tinker_actors.clients.rest.checkpoint_messages import ttl
from tinker_actors.clients.sampler import Sampler
from tinker_actors.clients.sampling import SamplingClient, start_sampling_client
from tinker_actors.clients.service_actor import GetServerCapabilities
from tinker_actors.clients.training import Source, TrainingClient, start_training_client
from tinker_actors.config import CheckpointPolicy, Config, RetryConfig, parse_checkpoints, parse_retry
from tinker_actors.errors import InvalidInput
from tinker_actors.flow.patience import OutOfPatience
from tinker_actors.flow.reaction import while_calling
from tinker_actors.ledger import Future
from tinker_actors.metrics import ModelUsage
from tinker_actors.server_class import ServerClass
from tinker_actors.sessions import Session, SessionEnd, SessionState, SessionStatus, end_for
from tinker_actors.telemetry import Telemetry
from tinker_actors.types import (
    AdamWConfig,
    CopyWeightsRequest,
    DimuonConfig,
    GetServerCapabilitiesResponse,
    LoraConfig,
    OptimizerConfig,
    OtherOptimizer,
    checkpoint_path,
    optimizer_fields,
)
from tinker_actors.wire.endpoints.weights import copy_weights

__all__ = ["ServiceClient"]

T = TypeVar("T")

_SEED_BITS = 31
_CLOSED_WITHIN = 10.0  # seconds, whatever has cancelled the block


class _Trained(msgspec.Struct, frozen=True):
    mlp: bool
    attn: bool
    unembed: bool


@final
class ServiceClient(CheckpointDownloads):
    """One session at a server. Get one from ``runtime.create_service_client()``.

    One that is let go, together with all clients of its session, is closed, with a ResourceWarning.
    """

    def __init__(
        self,
        session: Session,
        ref: ActorRef,
        place: SupervisorRef,
        clients: SupervisorRef,
        sessions: SupervisorRef,
        *,
        account: Account,
        own: OwnClients,
    ) -> None:
        self._session = session
        self._ref = ref
        self._place = place
        self._clients = clients
        self._sessions = sessions
        self._account = account
        self._own = own
        released_when_gone(
            self,
            session.tasks,
            f"close {place.name}",
            partial(stop_child, sessions, place.name),
            over=lambda: session.over,
            warning=f"the ServiceClient of {place.name} was let go without close(), and all clients of its session: "
            "the session ends",
        )

    @property
    def session_id(self) -> str:
        """The server's id of the session."""
        return self._session.session_id

    @property
    def config(self) -> Config:
        """The configuration that the session works by; printing it shows no secret."""
        return self._session.config

    @property
    def server_class(self) -> ServerClass | None:
        """What the server does with a training request that comes twice; None until that is known.

        It is found out before the first operation of a model, where neither configuration nor server say it.
        """
        return self._session.server_class

    @property
    def state(self) -> SessionState:
        """creating, active, finished or lost."""
        return self._session.state.value

    @property
    def seeds(self) -> random.Random:
        """What draws the seeds of adapters and samples that have none of their own: for who keeps its state."""
        return self._session.seeds

    def usage(self) -> dict[str, ModelUsage]:
        """Tokens trained on, read in prompts and sampled by this session's clients, by base model."""
        return self._session.usage.snapshot()

    def get_telemetry(self) -> Telemetry | None:
        """Where to record events of this client's session; None when telemetry is off."""
        return self._session.telemetry

    async def get_server_capabilities(self) -> GetServerCapabilitiesResponse:
        """What the server offers: base models and their context lengths in tokens."""
        self._session.home.require(self)
        with closed_as_such("get_server_capabilities"):
            return await self._ref.call(GetServerCapabilities(), timeout=float("inf"))

    def get_server_capabilities_async(self) -> Future[GetServerCapabilitiesResponse]:
        """``get_server_capabilities``, started at once in a task of the runtime's."""
        self._session.home.require(self)
        return self._session.tasks.start("get_server_capabilities", self.get_server_capabilities)

    async def create_rest_client(self) -> RestClient:
        """A client of what the caller has at the server; it does not end with this session."""
        return await start_rest_client(self._account, self._session.session_id)

    def create_rest_client_async(self) -> Future[RestClient]:
        """``create_rest_client``, started at once in a task of the runtime's."""
        self._session.home.require(self)
        return self._session.tasks.start("create_rest_client", self.create_rest_client)

    async def create_lora_training_client(  # noqa: PLR0917  # as in the official SDK
        self,
        base_model: str,
        rank: int = 32,
        seed: int | None = None,
        train_mlp: bool = True,
        train_attn: bool = True,
        train_unembed: bool = True,
        user_metadata: Mapping[str, str] | None = None,
        optimizer: OptimizerConfig | None = None,
        *,
        checkpoints: CheckpointPolicy | bool | None = None,
    ) -> TrainingClient:
        """Create a model of ``base_model`` with a LoRA adapter of ``rank``.

        Without a ``seed`` for the adapter's random start the client draws one, so that the model can be made
        again. ``optimizer`` is AdamW where nothing else is said. ``checkpoints`` says when its state is saved by
        itself, and without it the configuration's recovery does; False: never. Raises InvalidInput for bad values,
        and the server's refusal (an unknown base model, a rank above its limit) as it came. Cancelled, it leaves no
        model behind.
        """
        flags = _Trained(train_mlp, train_attn, train_unembed)
        return await self._lora(
            base_model, rank, seed, flags, user_metadata, optimizer=optimizer, checkpoints=checkpoints
        )()

    def create_lora_training_client_async(  # noqa: PLR0917  # as in the official SDK
        self,
        base_model: str,
        rank: int = 32,
        seed: int | None = None,
        train_mlp: bool = True,
        train_attn: bool = True,
        train_unembed: bool = True,
        user_metadata: Mapping[str, str] | None = None,
        optimizer: OptimizerConfig | None = None,
        *,
        checkpoints: CheckpointPolicy | bool | None = None,
    ) -> Future[TrainingClient]:
        """``create_lora_training_client``, started at once in a task of the runtime's."""
        flags = _Trained(train_mlp, train_attn, train_unembed)
        return self._start(
            "create_lora_training_client",
            self._lora(base_model, rank, seed, flags, user_metadata, optimizer=optimizer, checkpoints=checkpoints),
        )

    async def create_training_client_from_state(
        self,
        path: str,
        base_model: str | None = None,
        user_metadata: Mapping[str, str] | None = None,
        weights_access_token: str | None = None,
        optimizer: OptimizerConfig | None = None,
        *,
        checkpoints: CheckpointPolicy | bool | None = None,
    ) -> TrainingClient:
        """A model of the shape and with the weights of a saved state; its optimizer starts anew.

        ``base_model``, if given, must be the checkpoint's; ``optimizer`` is that of the checkpoint's model where
        nothing else is said. ``weights_access_token`` is its owner's leave to read it, where it is another's;
        ``checkpoints`` is as in ``create_lora_training_client``. Raises InvalidInput for bad values, and the server's
        refusal (no such checkpoint) as it came; then, and when it is cancelled, no model is left behind.
        """
        return await self._from_state(
            path,
            base_model,
            user_metadata,
            weights_access_token,
            checkpoints=checkpoints,
            optimizer=optimizer,
            with_optimizer=False,
        )()

    def create_training_client_from_state_async(
        self,
        path: str,
        base_model: str | None = None,
        user_metadata: Mapping[str, str] | None = None,
        weights_access_token: str | None = None,
        optimizer: OptimizerConfig | None = None,
        *,
        checkpoints: CheckpointPolicy | bool | None = None,
    ) -> Future[TrainingClient]:
        """``create_training_client_from_state``, started at once in a task of the runtime's."""
        made = self._from_state(
            path,
            base_model,
            user_metadata,
            weights_access_token,
            checkpoints=checkpoints,
            optimizer=optimizer,
            with_optimizer=False,
        )
        return self._start("create_training_client_from_state", made)

    async def create_training_client_from_state_with_optimizer(
        self,
        path: str,
        base_model: str | None = None,
        user_metadata: Mapping[str, str] | None = None,
        weights_access_token: str | None = None,
        *,
        checkpoints: CheckpointPolicy | bool | None = None,
    ) -> TrainingClient:
        """As ``create_training_client_from_state``, and the optimizer goes on where it was saved."""
        return await self._from_state(
            path,
            base_model,
            user_metadata,
            weights_access_token,
            checkpoints=checkpoints,
            with_optimizer=True,
        )()

    def create_training_client_from_state_with_optimizer_async(
        self,
        path: str,
        base_model: str | None = None,
        user_metadata: Mapping[str, str] | None = None,
        weights_access_token: str | None = None,
        *,
        checkpoints: CheckpointPolicy | bool | None = None,
    ) -> Future[TrainingClient]:
        """``create_training_client_from_state_with_optimizer``, started at once in a task of the runtime's."""
        made = self._from_state(
            path,
            base_model,
            user_metadata,
            weights_access_token,
            checkpoints=checkpoints,
            with_optimizer=True,
        )
        return self._start("create_training_client_from_state_with_optimizer", made)

    async def create_sampling_client(
        self,
        model_path: str | None = None,
        base_model: str | None = None,
        retry_config: RetryConfig | None = None,
        record_stability_info: bool = False,
    ) -> SamplingClient:
        """A sampling client of saved sampler weights, or of a base model. Give exactly one.

        ``retry_config`` says how its samples are tried again; without it the runtime's configuration counts. With
        ``record_stability_info`` the server keeps of each sample what a later stable_reinforce needs.
        """
        return await self._sampling(model_path, base_model, retry_config, record_stability_info)()

    def create_sampling_client_async(
        self,
        model_path: str | None = None,
        base_model: str | None = None,
        retry_config: RetryConfig | None = None,
        record_stability_info: bool = False,
    ) -> Future[SamplingClient]:
        """``create_sampling_client``, started at once in a task of the runtime's."""
        made = self._sampling(model_path, base_model, retry_config, record_stability_info)
        return self._start("create_sampling_client", made)

    async def copy_weights(
        self, path: str, *, ttl_seconds: int | None = None, weights_access_token: str | None = None
    ) -> str:
        """Copy a checkpoint into this session, as the only one of a run that can't be trained; returns its path.

        It is kept for ``ttl_seconds``, or for good. ``weights_access_token`` is its owner's leave to read it, where
        it is another's.
        """
        return await self._copy(path, ttl_seconds, weights_access_token)()

    def copy_weights_async(
        self, path: str, *, ttl_seconds: int | None = None, weights_access_token: str | None = None
    ) -> Future[str]:
        """``copy_weights``, started at once in a task of the runtime's."""
        return self._start("copy_weights", self._copy(path, ttl_seconds, weights_access_token))

    def _start(self, what: str, call: Callable[[], Awaitable[T]]) -> Future[T]:
        return self._session.tasks.start(what, partial(_kept, self, call))

    def _require_open(self) -> Session:
        self._session.home.require(self)
        self._session.require_open()
        return self._session

    def _checkpoints(self, given: CheckpointPolicy | bool | None) -> CheckpointPolicy | None:
        """The policy of a new client: what was ``given`` for it, or the configuration's."""
        recovery = self._session.config.recovery
        if given is None:
            return None if recovery is None else recovery.checkpoints
        return parse_checkpoints("checkpoints", given)

    # Each checks its values at once; what it returns does the work.

    def _lora(
        self,
        base_model: str,
        rank: int,
        seed: int | None,
        flags: _Trained,
        user_metadata: Mapping[str, str] | None,
        *,
        optimizer: OptimizerConfig | None,
        checkpoints: CheckpointPolicy | bool | None,
    ) -> Callable[[], Awaitable[TrainingClient]]:
        base_model = text("base_model", base_model, "get_server_capabilities() lists the models")
        metadata = texts("user_metadata", user_metadata)
        family = _family(optimizer)
        policy = self._checkpoints(checkpoints)
        session = self._require_open()
        lora = LoraConfig(
            rank=rank,
            seed=session.seeds.getrandbits(_SEED_BITS) if seed is None else seed,
            train_mlp=flags.mlp,
            train_attn=flags.attn,
            train_unembed=flags.unembed,
        )
        return lambda: start_training_client(
            session,
            self._clients,
            "create_lora_training_client",
            service=self,
            own=self._own,
            base_model=base_model,
            lora=lora,
            optimizer=family,
            user_metadata=metadata,
            checkpoints=policy,
        )

    def _from_state(
        self,
        path: str,
        base_model: str | None,
        user_metadata: Mapping[str, str] | None,
        weights_access_token: str | None,
        *,
        checkpoints: CheckpointPolicy | bool | None,
        optimizer: OptimizerConfig | None = None,
        with_optimizer: bool,
    ) -> Callable[[], Awaitable[TrainingClient]]:
        checkpoint_path(path, kind="weights")
        if base_model is not None:
            base_model = text("base_model", base_model, "Leave it out, or give the checkpoint's")
        metadata = texts("user_metadata", user_metadata)
        policy = self._checkpoints(checkpoints)
        source = Source(path, with_optimizer, _token(weights_access_token))
        family = _family(optimizer)
        session = self._require_open()
        return lambda: start_training_client(
            session,
            self._clients,
            "create_training_client_from_state",
            service=self,
            own=self._own,
            base_model=base_model or "",
            source=source,
            optimizer=family,
            user_metadata=metadata,
            checkpoints=policy,
        )

    def _sampling(
        self,
        model_path: str | None,
        base_model: str | None,
        retry_config: RetryConfig | None,
        record_stability_info: bool,
    ) -> Callable[[], Awaitable[SamplingClient]]:
        if (model_path is None) == (base_model is None):
            raise InvalidInput("model_path, base_model", "need exactly one of them", "Give one")
        if model_path is not None:
            checkpoint_path(model_path, kind="sampler_weights", field="model_path")
        else:
            base_model = text("base_model", base_model, "get_server_capabilities() lists the models")
        retry = None if retry_config is None else parse_retry("retry_config", retry_config)
        recorded = flag("record_stability_info", record_stability_info)
        session = self._require_open()

        async def start() -> SamplingClient:
            sampler = Sampler(
                session=session.name,
                seq_id=session.next_sampling_session_seq_id(),
                model_path=model_path,
                base_model=base_model,
                record_stability_info=recorded,
                sampling_session_id=None,
                key=session.new_key(),
            )
            return await start_sampling_client(session, sampler, self._clients, retry, keeps=self)

        return start

    def _copy(
        self, path: str, ttl_seconds: int | None, weights_access_token: str | None
    ) -> Callable[[], Awaitable[str]]:
        session = self._require_open()
        request = CopyWeightsRequest(
            source_path=path,
            session_id=session.session_id,
            model_seq_id=session.next_model_seq_id(),
            ttl_seconds=ttl(ttl_seconds),
            weights_access_token=_token(weights_access_token),
        )
        key = session.new_key()

        async def copy() -> str:
            with session.pending.track(session.name, "copy_weights", "sent") as entry:
                patience = session.poller().patience()
                try:
                    there = msgspec.structs.replace(request, session_id=await session.until_active(entry))
                    entry.enter("sent")
                    return await patience.persist(
                        lambda: copy_weights(session.api, there, key=key, attempt=patience.tries),
                        while_calling,
                        entry.explain,
                    )
                except OutOfPatience as gone:
                    raise creation_failure(session, "copy_weights", gone) from None

        return copy

    def _downloads(self) -> Downloads:
        session = self._session
        session.home.require(self)
        return Downloads(
            name=session.name,
            api=session.api,
            config=session.config,
            pending=session.pending,
            offload=session.offload,
            rng=session.random,
            tasks=session.tasks,
            export=partial(export_weights, self),
        )

    async def close(self, status: SessionStatus = "success", detail: str | None = None) -> None:
        """Close every client of this session and finish it at the server as ``status``, with ``detail`` for people.

        The first status given counts, also over that of leaving the runtime. Raises InvalidInput for another one.
        """
        end = SessionEnd(status, detail)
        self._session.home.require(self)
        if self._session.state.value is SessionState.FINISHED:
            await trio.lowlevel.checkpoint()
            return
        self._session.end_as(end)
        await stop_child(self._sessions, self._place.name)

    async def aclose(self) -> None:
        """``close("success")``."""
        await self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it: as a success, or as errored or interrupted by what left the block."""
        self._session.home.require(self)
        self._session.end_as(end_for(error))
        # What the runtime would do at its own end has its time here, too; if that is over, the runtime goes on.
        with trio.CancelScope(shield=True, deadline=trio.current_time() + _CLOSED_WITHIN):
            await self.close()

    def __repr__(self) -> str:
        return f"<ServiceClient {self._session.name} {self._session.state.value}>"


async def _kept(_service: ServiceClient, call: Callable[[], Awaitable[T]]) -> T:
    """What ``call`` gives; the service client, and so its session, is not let go meanwhile."""
    return await call()


def _token(weights_access_token: str | None) -> str | None:
    if weights_access_token is None:
        return None
    return text("weights_access_token", weights_access_token, "Give the token that the checkpoint's owner gave you")


def _family(optimizer: OptimizerConfig | None) -> Mapping[str, Any] | None:
    """The optimizer's configuration as it is sent; None for the server's default."""
    if optimizer is None:
        return None
    if not isinstance(optimizer, AdamWConfig | DimuonConfig | OtherOptimizer):  # pyright: ignore[reportUnnecessaryIsInstance]
        problem = f"is of type {type(optimizer).__name__}"
        raise InvalidInput("optimizer", problem, "Give AdamWConfig(), DimuonConfig(), or an OtherOptimizer")
    return optimizer_fields(optimizer)
