"""The ServiceClient: one session at a server, and the way to its other clients."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self, final

import trio

from supervision import Actor, ActorRef, Call, SupervisorRef, handles
from tinker_actors.checks import text, texts
from tinker_actors.clients.closing import closed_as_such, stop_child
from tinker_actors.clients.downloading import Downloads
from tinker_actors.clients.rest import Account, RestClient, start_rest_client
from tinker_actors.clients.sampler import Sampler
from tinker_actors.clients.sampling import SamplingClient, start_sampling_client
from tinker_actors.clients.spec import client_spec
from tinker_actors.clients.training import Model, TrainingActor, TrainingClient
from tinker_actors.clients.training.model import new_model
from tinker_actors.config import Config, RetryConfig, parse_retry
from tinker_actors.errors import InvalidInput, TinkerError
from tinker_actors.flow.patience import OutOfPatience
from tinker_actors.flow.reaction import while_polling
from tinker_actors.ledger import Future, Ledger
from tinker_actors.sessions import Session, SessionEnd, SessionState, SessionStatus, end_for
from tinker_actors.telemetry import Telemetry
from tinker_actors.types import GetServerCapabilitiesResponse, LoraConfig, TinkerPath, checkpoint_path
from tinker_actors.wire.endpoints.service import get_server_capabilities

if TYPE_CHECKING:
    from tinker_actors.archives import ArchiveBounds
    from tinker_actors.downloads import DownloadedCheckpoint, DownloadProgress

__all__ = ["ServiceActor", "ServiceClient"]

_SEED_BITS = 31
_CLOSED_WITHIN = 10.0  # seconds, whatever has cancelled the block


class GetServerCapabilities(Call[GetServerCapabilitiesResponse], frozen=True):
    """Ask the server what it offers."""


class ServiceActor(Actor):
    """The control plane of one service client."""

    def __init__(self, session: Session) -> None:
        self._session = session

    @handles(GetServerCapabilities)
    async def get_server_capabilities(self, message: GetServerCapabilities) -> None:
        """Ask in a task of its own, so that the mailbox stays free."""
        reply = self.context.defer_reply()
        session = self._session

        async def ask() -> None:
            with session.pending.track(session.name, "get_server_capabilities", "sent") as entry:
                try:
                    patience = session.poller().patience()
                    answer = await patience.persist(
                        lambda: get_server_capabilities(session.api, attempt=patience.tries),
                        while_polling,
                        entry.explain,
                    )
                    reply.send(answer)
                except OutOfPatience as gone:
                    reply.fail(gone.error)
                except TinkerError as error:
                    reply.fail(error)

        self.context.start_task(ask, name="get_server_capabilities")


@final
class ServiceClient:
    """One session at a server. Get one from ``runtime.create_service_client()``."""

    def __init__(
        self,
        session: Session,
        ref: ActorRef,
        place: SupervisorRef,
        clients: SupervisorRef,
        sessions: SupervisorRef,
        *,
        account: Account,
    ) -> None:
        self._session = session
        self._ref = ref
        self._place = place
        self._clients = clients
        self._sessions = sessions
        self._account = account

    @property
    def session_id(self) -> str:
        """The server's id of the session."""
        return self._session.session_id

    @property
    def config(self) -> Config:
        """The configuration that the session works by; printing it shows no secret."""
        return self._session.config

    @property
    def state(self) -> SessionState:
        """creating, active, finished or lost."""
        return self._session.state.value

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

    async def create_lora_training_client(
        self,
        base_model: str,
        rank: int = 32,
        seed: int | None = None,
        *,
        train_mlp: bool = True,
        train_attn: bool = True,
        train_unembed: bool = True,
        user_metadata: Mapping[str, str] | None = None,
    ) -> TrainingClient:
        """Create a model of ``base_model`` with a LoRA adapter of ``rank``.

        Without a ``seed`` for the adapter's random start the client draws one, so that the model can be made
        again. Raises InvalidInput for bad values, and the server's refusal (an unknown base model, a rank
        above its limit) as it came.
        """
        base_model = text("base_model", base_model, "get_server_capabilities() lists the models")
        metadata = texts("user_metadata", user_metadata)
        session = self._session
        session.home.require(self)
        session.require_open()
        lora = LoraConfig(
            rank=rank,
            seed=session.seeds.getrandbits(_SEED_BITS) if seed is None else seed,
            train_mlp=train_mlp,
            train_attn=train_attn,
            train_unembed=train_unembed,
        )
        first = new_model(session)
        name = f"training-{first.seq_id}"
        config = session.config
        ledger = Ledger(
            f"{session.name}/{name}",
            session.pending,
            session.new_key,
            max_pending=config.max_pending,
            max_pending_bytes=config.max_pending_bytes,
            replay_bytes=None if config.recovery is None else config.recovery.replay_bytes,
            spans=session.spans,
        )
        session.ledgers.add(ledger)
        model = Model(
            first=first,
            base_model=base_model,
            lora=lora,
            user_metadata=metadata,
            ledger=ledger,
            ledgers=session.ledgers,
        )
        spec = client_spec(name, lambda: TrainingActor(session, model), on_close=model.close)
        with closed_as_such("create_lora_training_client"):
            ref = await self._clients.start_child(spec)
        return TrainingClient(session, model, ref, self._clients, name)

    async def create_sampling_client(
        self,
        *,
        model_path: str | None = None,
        base_model: str | None = None,
        retry_config: RetryConfig | None = None,
    ) -> SamplingClient:
        """A sampling client of saved sampler weights, or of a base model. Give exactly one.

        ``retry_config`` says how its samples are tried again; without it the runtime's configuration counts.
        """
        if (model_path is None) == (base_model is None):
            raise InvalidInput("model_path, base_model", "need exactly one of them", "Give one")
        if model_path is not None:
            checkpoint_path(model_path, kind="sampler_weights", field="model_path")
        else:
            base_model = text("base_model", base_model, "get_server_capabilities() lists the models")
        retry = None if retry_config is None else parse_retry("retry_config", retry_config)
        session = self._session
        session.home.require(self)
        session.require_open()
        sampler = Sampler(
            session=session.name,
            seq_id=session.next_sampling_session_seq_id(),
            model_path=model_path,
            base_model=base_model,
            sampling_session_id=None,
            key=session.new_key(),
        )
        return await start_sampling_client(session, sampler, self._clients, retry)

    async def download_checkpoint(
        self,
        path: str,
        output_dir: str | Path = ".",
        *,
        force: bool = False,
        progress: Callable[[DownloadProgress], object] | None = None,
        bounds: ArchiveBounds | None = None,
        sha256: str | None = None,
    ) -> DownloadedCheckpoint:
        """The checkpoint ``path`` as a new folder in ``output_dir``, named like the path with "/" as "_".

        Weights come as an archive, external weights file by file (WIRE 10). No credential goes to where they are
        kept. The folder appears once everything has arrived and agrees with the digests that came with it; one that
        is there already is replaced only with ``force``, and only then. What breaks off is continued where it was,
        also by the next call: until then it is in a folder .NAME.partial beside it. ``bounds`` say how much it may
        be; ``sha256`` is the archive's, if you know it. ``progress`` is called as bytes reach the disk, in this run
        of trio; what it raises ends the download.

        Raises InvalidInput for a bad value, a folder that is there or can't be written, and a disk without room;
        the server's refusal as it came; DownloadError where a file can't be had whole; ArchiveError for an archive
        that is damaged, beyond its bounds, or does what it may not.
        """
        session = self._session
        session.home.require(self)
        downloads = Downloads(
            name=session.name,
            api=session.api,
            config=session.config,
            pending=session.pending,
            offload=session.offload,
            rng=session.random,
        )
        return await downloads.checkpoint(
            path, output_dir, force=force, progress=progress, bounds=bounds, sha256=sha256
        )

    def download_checkpoint_async(
        self,
        path: str,
        output_dir: str | Path = ".",
        *,
        force: bool = False,
        progress: Callable[[DownloadProgress], object] | None = None,
        bounds: ArchiveBounds | None = None,
        sha256: str | None = None,
    ) -> Future[DownloadedCheckpoint]:
        """``download_checkpoint``, started at once."""
        TinkerPath.parse(path)
        self._session.home.require(self)
        return self._session.tasks.start(
            "download_checkpoint",
            lambda: self.download_checkpoint(
                path, output_dir, force=force, progress=progress, bounds=bounds, sha256=sha256
            ),
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
