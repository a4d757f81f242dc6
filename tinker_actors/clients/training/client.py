"""The TrainingClient: the handle that programs hold."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeVar, final

import trio
from trio_util import AsyncValue

from supervision import ActorRef, SupervisorRef
from tinker_actors.checks import flag
from tinker_actors.clients.closing import closed_as_such, stop_child
from tinker_actors.clients.letting_go import released_when_gone
from tinker_actors.clients.sampler import Sampler
from tinker_actors.clients.sampling import SamplingClient, start_sampling_client
from tinker_actors.clients.training import operations
from tinker_actors.clients.training.acceptance import Acceptance
from tinker_actors.clients.training.checkpoints import AutomaticCheckpoints
from tinker_actors.clients.training.creation import free, release
from tinker_actors.clients.training.custom_loss import LOSS_TIMEOUT, CustomLoss, Differentiation
from tinker_actors.clients.training.messages import GetInfo, Unload
from tinker_actors.clients.training.model import Model
from tinker_actors.clients.training.operations import SamplerKind, StepParams
from tinker_actors.config import RetryConfig, parse_retry
from tinker_actors.errors import APIResponseError, ClosedError, InvalidInput, OperationError
from tinker_actors.flow.queue_state import Observer, QueueSubscription
from tinker_actors.ledger import AcceptedOperation, Chunk, Future, Ledger, Operation, OperationKind, Shown
from tinker_actors.sessions import Session
from tinker_actors.telemetry import Telemetry
from tinker_actors.types import (
    AdamParams,
    Datum,
    ForwardBackwardOutput,
    GetInfoResponse,
    LoadWeightsResponse,
    OptimStepResponse,
    QueueState,
    SaveWeightsExternalResponse,
    SaveWeightsForSamplerResponse,
    SaveWeightsResponse,
    UnloadModelResponse,
    checkpoint_path,
)

if TYPE_CHECKING:
    from tinker_actors.clients.service import ServiceClient
    from tinker_actors.tokenizers import Tokenizer

__all__ = ["TrainingClient"]

T = TypeVar("T")


@final
class TrainingClient:
    """One model in training. Handles are cheap and stay valid whatever restarts behind them.

    Training operations take effect in the order in which they were accepted. Each method returns a Future
    once the operation is accepted, so steps can be pipelined:

        step = await client.forward_backward(data, "cross_entropy")
        update = await client.optim_step(AdamParams(learning_rate=1e-3))
        print((await step).metrics["loss:sum"], (await update).metrics)

    Each ``_async`` twin is a plain function that accepts at the call. An error of either means that nothing was
    accepted or sent: InvalidInput for a bad value, LaneStopped when an earlier failure stopped this model.

    A client that is let go is unloaded once everything that was accepted is done, with a ResourceWarning.
    """

    def __init__(
        self,
        session: Session,
        model: Model,
        ref: ActorRef,
        clients: SupervisorRef,
        name: str,
        *,
        service: ServiceClient,
    ) -> None:
        self._session = session
        self._model = model
        self._ref = ref
        self._clients = clients
        self._name = name
        self._closed = False
        self._unloading = False
        self._acceptance = Acceptance(session, model, ref)
        self._service = service
        self._unclosed = released_when_gone(
            self,
            session.tasks,
            f"unload {model.ledger.name}",
            partial(release, session, model, partial(stop_child, clients, name), service),
            over=lambda: session.over,
            warning=f"the TrainingClient {model.ledger.name} ({model.ledger.model_id}) was let go without "
            "unload_model() or aclose(): it is unloaded once its operations are done",
        )

    @property
    def model_id(self) -> str:
        """The server's id of the model."""
        model_id = self._model.ledger.model_id
        assert model_id is not None
        return model_id

    @property
    def accepted(self) -> tuple[AcceptedOperation, ...]:
        """The accepted operations, in order, with the digests of their chunks: the latest 65,536."""
        return self._model.ledger.accepted

    @property
    def checkpoints(self) -> AutomaticCheckpoints:
        """The checkpoints that are saved by themselves: those that there are, and what becomes of them."""
        return self._model.checkpoints

    @property
    def queue_state(self) -> AsyncValue[QueueState]:
        """Whether the server works on this model's operations, or has paused; read it or wait for a value."""
        return self._model.queue.state

    def on_queue_state_change(self, observer: Observer) -> QueueSubscription:
        """Have ``observer`` called with each QueueStateChange of this client, until the subscription is cancelled.

        An async function is called on the loop, a plain one in a thread; at most once a second, and none may take
        longer than ten. Raises InvalidInput for what can't be called.
        """
        self._session.home.require(self)
        return self._session.observe(self._model.queue, observer)

    def get_telemetry(self) -> Telemetry | None:
        """Where to record events of this client's session; None when telemetry is off."""
        return self._session.telemetry

    async def forward(
        self,
        data: Sequence[Datum],
        loss_fn: str = "cross_entropy",
        loss_fn_config: Mapping[str, float | str] | None = None,
    ) -> Future[ForwardBackwardOutput]:
        """Compute losses and log-probabilities without gradients."""
        chunks = self._forward_chunks(data, loss_fn, loss_fn_config, forward_only=True)
        return await self._accept(OperationKind.FORWARD, chunks)

    def forward_async(
        self,
        data: Sequence[Datum],
        loss_fn: str = "cross_entropy",
        loss_fn_config: Mapping[str, float | str] | None = None,
    ) -> Future[ForwardBackwardOutput]:
        """``forward``, accepted at the call."""
        chunks = self._forward_chunks(data, loss_fn, loss_fn_config, forward_only=True)
        return self._accept_now(OperationKind.FORWARD, chunks)

    async def forward_backward(
        self,
        data: Sequence[Datum],
        loss_fn: str = "cross_entropy",
        loss_fn_config: Mapping[str, float | str] | None = None,
    ) -> Future[ForwardBackwardOutput]:
        """Compute losses and add their gradients to those that the next optim_step applies."""
        chunks = self._forward_chunks(data, loss_fn, loss_fn_config, forward_only=False)
        return await self._accept(OperationKind.FORWARD_BACKWARD, chunks)

    def forward_backward_async(
        self,
        data: Sequence[Datum],
        loss_fn: str = "cross_entropy",
        loss_fn_config: Mapping[str, float | str] | None = None,
    ) -> Future[ForwardBackwardOutput]:
        """``forward_backward``, accepted at the call."""
        chunks = self._forward_chunks(data, loss_fn, loss_fn_config, forward_only=False)
        return self._accept_now(OperationKind.FORWARD_BACKWARD, chunks)

    async def forward_backward_custom(
        self,
        data: Sequence[Datum],
        loss_fn: Callable[..., Any],
        *,
        loss_type_input: Literal["logprobs"] | None = None,
        differentiation: Differentiation | None = None,
        loss_timeout: float = LOSS_TIMEOUT,
    ) -> Future[ForwardBackwardOutput]:
        """``forward_backward`` with a loss of your own: ``loss_fn(data, logprobs)``, called with an array for
        each datum, the log-probability of each target token.

        It returns a scalar, or a scalar and a dict of metrics. ``differentiation`` says how its gradient is had:
        "torch" (the arrays are tensors of it), "autograd" (it computes with ``autograd.numpy``), or "own" (it returns
        the loss, its gradients, one array for each datum, and maybe metrics); by default torch where the program has
        imported it. It runs in a thread for at most ``loss_timeout`` seconds (an async one on the loop), while later
        operations keep their place behind it. When it fails, this operation alone fails, with LossTermError.

        Of ``data`` only target_tokens and weights are sent. The result's ``loss:sum`` is the function's value,
        ``surrogate_loss:sum`` that of the server's pass. ``loss_type_input`` is "logprobs", as it always is.
        """
        _check_loss_type(loss_type_input)
        loss, chunks = self._custom(data, loss_fn, differentiation, loss_timeout)
        operation = await self._admit(OperationKind.FORWARD_BACKWARD_CUSTOM, chunks, loss)
        return operation.future

    def forward_backward_custom_async(
        self,
        data: Sequence[Datum],
        loss_fn: Callable[..., Any],
        *,
        loss_type_input: Literal["logprobs"] | None = None,
        differentiation: Differentiation | None = None,
        loss_timeout: float = LOSS_TIMEOUT,
    ) -> Future[ForwardBackwardOutput]:
        """``forward_backward_custom``, accepted at the call."""
        _check_loss_type(loss_type_input)
        loss, chunks = self._custom(data, loss_fn, differentiation, loss_timeout)
        return self._accept_now(OperationKind.FORWARD_BACKWARD_CUSTOM, chunks, loss)

    async def optim_step(
        self, optim_params: StepParams | None = None, *, adam_params: AdamParams | None = None
    ) -> Future[OptimStepResponse]:
        """Apply the gradients gathered since the last step, and clear them.

        ``optim_params`` are AdamParams, or those of the optimizer that the model was created with; ``adam_params`` is
        another name for them.
        """
        return await self._accept(OperationKind.OPTIM_STEP, (operations.optim_chunk(optim_params, adam_params),))

    def optim_step_async(
        self, optim_params: StepParams | None = None, *, adam_params: AdamParams | None = None
    ) -> Future[OptimStepResponse]:
        """``optim_step``, accepted at the call."""
        return self._accept_now(OperationKind.OPTIM_STEP, (operations.optim_chunk(optim_params, adam_params),))

    async def save_state(
        self,
        name: str,
        ttl_seconds: int | None = None,
        overwrite: bool = False,
        user_metadata: Mapping[str, str] | None = None,
    ) -> Future[SaveWeightsResponse]:
        """Save weights and optimizer under ``name``; the result's path is for ``load_state``.

        Where the name is taken, the server refuses, or with ``overwrite`` (if it knows that) replaces the checkpoint,
        ``user_metadata`` included.
        """
        chunk = operations.save_chunk(name, ttl_seconds, overwrite=overwrite, user_metadata=user_metadata)
        return await self._accept(OperationKind.SAVE_STATE, (chunk,))

    def save_state_async(
        self,
        name: str,
        ttl_seconds: int | None = None,
        overwrite: bool = False,
        user_metadata: Mapping[str, str] | None = None,
    ) -> Future[SaveWeightsResponse]:
        """``save_state``, accepted at the call."""
        chunk = operations.save_chunk(name, ttl_seconds, overwrite=overwrite, user_metadata=user_metadata)
        return self._accept_now(OperationKind.SAVE_STATE, (chunk,))

    async def load_state(self, path: str, weights_access_token: str | None = None) -> Future[LoadWeightsResponse]:
        """Replace the weights by those of a saved state. Pending gradients and the optimizer start anew.

        ``weights_access_token`` is the leave of the state's owner, where it is another's.
        """
        chunk = operations.load_chunk(path, weights_access_token, optimizer=False)
        return await self._accept(OperationKind.LOAD_STATE, (chunk,))

    async def load_state_with_optimizer(
        self, path: str, weights_access_token: str | None = None
    ) -> Future[LoadWeightsResponse]:
        """Replace weights and optimizer by those of a saved state. Pending gradients are dropped."""
        chunk = operations.load_chunk(path, weights_access_token, optimizer=True)
        return await self._accept(OperationKind.LOAD_STATE, (chunk,))

    def load_state_async(self, path: str, weights_access_token: str | None = None) -> Future[LoadWeightsResponse]:
        """``load_state``, accepted at the call."""
        chunk = operations.load_chunk(path, weights_access_token, optimizer=False)
        return self._accept_now(OperationKind.LOAD_STATE, (chunk,))

    def load_state_with_optimizer_async(
        self, path: str, weights_access_token: str | None = None
    ) -> Future[LoadWeightsResponse]:
        """``load_state_with_optimizer``, accepted at the call."""
        chunk = operations.load_chunk(path, weights_access_token, optimizer=True)
        return self._accept_now(OperationKind.LOAD_STATE, (chunk,))

    async def save_weights_for_sampler(
        self, name: str, ttl_seconds: int | None = None, user_metadata: Mapping[str, str] | None = None
    ) -> Future[SaveWeightsForSamplerResponse]:
        """Save the weights for sampling under ``name``; the result's path is for create_sampling_client."""
        chunk = operations.sampler_chunk(name, None, ttl_seconds, user_metadata=user_metadata)
        return await self._accept(OperationKind.SAVE_WEIGHTS_FOR_SAMPLER, (chunk,))

    def save_weights_for_sampler_async(
        self, name: str, ttl_seconds: int | None = None, user_metadata: Mapping[str, str] | None = None
    ) -> Future[SaveWeightsForSamplerResponse]:
        """``save_weights_for_sampler``, accepted at the call."""
        chunk = operations.sampler_chunk(name, None, ttl_seconds, user_metadata=user_metadata)
        return self._accept_now(OperationKind.SAVE_WEIGHTS_FOR_SAMPLER, (chunk,))

    async def save_weights_external(
        self,
        name: str,
        ttl_seconds: int | None = None,
        age_encryption_recipients: Sequence[str] | None = None,
    ) -> Future[SaveWeightsExternalResponse]:
        """Save the adapter as files for use elsewhere; the result's path is for get_external_weights_urls.

        ``age_encryption_recipients`` are at most 10 public keys, of age or SSH, that the files are encrypted for.
        """
        chunk = operations.external_chunk(name, ttl_seconds, age_encryption_recipients)
        return await self._accept(OperationKind.SAVE_WEIGHTS_EXTERNAL, (chunk,))

    def save_weights_external_async(
        self,
        name: str,
        ttl_seconds: int | None = None,
        age_encryption_recipients: Sequence[str] | None = None,
    ) -> Future[SaveWeightsExternalResponse]:
        """``save_weights_external``, accepted at the call."""
        chunk = operations.external_chunk(name, ttl_seconds, age_encryption_recipients)
        return self._accept_now(OperationKind.SAVE_WEIGHTS_EXTERNAL, (chunk,))

    async def save_weights_and_get_sampling_client(
        self,
        name: str | None = None,
        retry_config: RetryConfig | None = None,
        record_stability_info: bool = False,
        kind: SamplerKind = "snapshot",
    ) -> SamplingClient:
        """A sampling client of the weights as all operations accepted so far will have made them.

        Without a ``name`` the weights live as long as the session does. ``retry_config`` says how its samples are
        tried again; without it the runtime's configuration counts. With ``record_stability_info`` the server keeps of
        each sample what a later stable_reinforce needs. ``kind`` "inflight", where the server knows that, makes
        weights that move on with each later client of this kind (WIRE 2.4).
        """
        chunk, seq_id, retry = self._sampler_save(name, retry_config, kind)
        recorded = flag("record_stability_info", record_stability_info)
        operation = await self._admit(OperationKind.SAVE_WEIGHTS_FOR_SAMPLER, (chunk,))
        return await self._sampler_of(operation, seq_id, retry, recorded)()

    def save_weights_and_get_sampling_client_async(
        self,
        name: str | None = None,
        retry_config: RetryConfig | None = None,
        record_stability_info: bool = False,
        kind: SamplerKind = "snapshot",
    ) -> Future[SamplingClient]:
        """``save_weights_and_get_sampling_client``, accepted at the call."""
        chunk, seq_id, retry = self._sampler_save(name, retry_config, kind)
        recorded = flag("record_stability_info", record_stability_info)
        operation = self._admit_now(OperationKind.SAVE_WEIGHTS_FOR_SAMPLER, (chunk,))
        return self._session.tasks.start(
            "save_weights_and_get_sampling_client", self._sampler_of(operation, seq_id, retry, recorded)
        )

    async def create_sampling_client(
        self, model_path: str, retry_config: RetryConfig | None = None, record_stability_info: bool = False
    ) -> SamplingClient:
        """A sampling client of saved sampler weights, of this model or another of the same base model."""
        return await self._sampling(model_path, retry_config, record_stability_info)()

    def create_sampling_client_async(
        self, model_path: str, retry_config: RetryConfig | None = None, record_stability_info: bool = False
    ) -> Future[SamplingClient]:
        """``create_sampling_client``, started at once in a task of the runtime's."""
        made = self._sampling(model_path, retry_config, record_stability_info)
        return self._session.tasks.start("create_sampling_client", made)

    def _sampling(
        self, model_path: str, retry_config: RetryConfig | None, record_stability_info: bool
    ) -> Callable[[], Awaitable[SamplingClient]]:
        checkpoint_path(model_path, kind="sampler_weights", field="model_path")
        retry = None if retry_config is None else parse_retry("retry_config", retry_config)
        recorded = flag("record_stability_info", record_stability_info)
        session = self._session
        session.home.require(self)
        session.require_open()

        async def start() -> SamplingClient:
            sampler = Sampler(
                session=session.name,
                seq_id=session.next_sampling_session_seq_id(),
                model_path=model_path,
                base_model=None,
                trained_from=self._model.base_model,
                vocabulary=self._model.vocabulary,
                record_stability_info=recorded,
                sampling_session_id=None,
                key=session.new_key(),
            )
            return await start_sampling_client(session, sampler, self._clients, retry, keeps=self._service)

        return start

    @property
    def verdict(self) -> OperationError | None:
        """What waits for a decision of yours: ``restore``, ``assume_applied`` or ``abandon``; None: nothing.

        An UnknownVerdict where nobody can tell whether an operation took effect, an OutageError after an outage. The
        Futures of all that waits have ended with it, and nothing more is accepted; what was accepted is kept.
        """
        undecided = self._model.ledger.undecided
        return None if undecided is None else undecided.error

    async def restore(self) -> tuple[Future[Any], ...]:
        """Go on, so that what is in doubt takes effect exactly once: a new Future for each operation that waits.

        A model that may or may not have taken an operation is left behind; another one takes its place, as when the
        server has lost it. After an outage the model goes on where it is. Raises InvalidInput when there is nothing
        to decide (``verdict``), or when nothing was kept to go on from (``Config(recovery=False)``), and ClosedError
        when this client was closed.
        """
        return await self._decide("restore", Ledger.restore)

    def restore_async(self) -> Future[tuple[Future[Any], ...]]:
        """``restore``, decided at the call."""
        return self._decide_now("restore", Ledger.restore)

    async def assume_applied(self) -> tuple[Future[Any], ...]:
        """Go on as if what is in doubt had taken effect: a new Future for each operation that waits behind it.

        It itself has no result. Whoever has looked at the server may know; on a guess an operation may be missing.
        Raises InvalidInput when nothing is in doubt.
        """
        return await self._decide("assume_applied", Ledger.assume_applied)

    def assume_applied_async(self) -> Future[tuple[Future[Any], ...]]:
        """``assume_applied``, decided at the call."""
        return self._decide_now("assume_applied", Ledger.assume_applied)

    async def abandon(self) -> None:
        """Give the model up: nothing more is accepted, and no operation waits any more.

        Raises InvalidInput when there is nothing to decide.
        """
        await self._decide("abandon", Ledger.abandon)

    def abandon_async(self) -> Future[None]:
        """``abandon``, decided at the call."""
        return self._decide_now("abandon", Ledger.abandon)

    async def _decide(self, what: str, decide: Callable[[Ledger], T]) -> T:
        self._require_decidable(what)
        await trio.lowlevel.checkpoint()
        return decide(self._model.ledger)

    def _require_decidable(self, what: str) -> None:
        self._session.home.require(self)
        if self._closed or self._unloading:
            raise ClosedError(f"{what} was not done: this client was closed")

    def _decide_now(self, what: str, decide: Callable[[Ledger], T]) -> Future[T]:
        self._require_decidable(what)
        decided: Future[T] = Future(lambda: what, lambda: False, self._session.home)
        decided.resolve(decide(self._model.ledger))
        return decided

    async def unload_model(self) -> UnloadModelResponse:
        """Have the server free the model, once everything that was accepted is done, and close this client.

        Nothing more is accepted from the call on, and what waits for a decision is abandoned. Checkpoints stay, and
        so do sampling clients. A server that knows no such call frees the model with its session.
        """
        if self._closed or self._unloading:
            raise ClosedError("unload_model was not done: this client was closed")
        self._session.home.require(self)
        self._unloading = True
        if self.verdict is not None:
            self._model.ledger.abandon()
        for future in [operation.future for operation in self._model.ledger.unfinished()]:
            await future.exception()
        with closed_as_such("unload_model"):
            answer = await self._ref.call(Unload(), timeout=float("inf"))
        await self.aclose()
        return answer

    def unload_model_async(self) -> Future[UnloadModelResponse]:
        """``unload_model``, started at once in a task of the runtime's."""
        self._session.home.require(self)
        return self._session.tasks.start("unload_model", self.unload_model)

    async def get_info(self) -> GetInfoResponse:
        """Ask the server for the model's description."""
        self._session.home.require(self)
        with closed_as_such("get_info"):
            return await self._ref.call(GetInfo(), timeout=float("inf"))

    def get_info_async(self) -> Future[GetInfoResponse]:
        """``get_info``, started at once in a task of the runtime's."""
        self._session.home.require(self)
        return self._session.tasks.start("get_info", self.get_info)

    async def get_tokenizer(self) -> Tokenizer:
        """The tokenizer of the base model, loaded once for all clients of the runtime.

        It is the one that ``Config.tokenizers`` has for the model, or comes from the package or the Hugging Face hub,
        under the name that the server gives: never from a file of this machine, which a server could choose
        otherwise. Raises InvalidInput when there is none.
        """
        from tinker_actors.clients.tokenizing import load_tokenizer
        from tinker_actors.tokenizers import served_name

        self._session.home.require(self)
        info = self._model.info or await self.get_info()
        names = (info.model_data.model_name, info.model_name, info.tokenizer_id)
        return await load_tokenizer(self._session, names, lambda: served_name(info))

    def get_tokenizer_async(self) -> Future[Tokenizer]:
        """``get_tokenizer``, started at once in a task of the runtime's."""
        self._session.home.require(self)
        return self._session.tasks.start("get_tokenizer", self.get_tokenizer)

    async def aclose(self) -> None:
        """Stop this client: unfinished operations end with ClosedError, and the server is asked to free the model.

        That goes on in a task of the runtime's. Checkpoints stay, and so do sampling clients.
        """
        self._session.home.require(self)
        if self._closed:
            await trio.lowlevel.checkpoint()
            return
        self._closed = True
        self._unclosed.detach()
        try:
            await stop_child(self._clients, self._name)
        finally:
            session, name, model_id = self._session, self._model.ledger.name, self._model.ledger.model_id
            if not self._unloading and model_id is not None and not session.over:
                with suppress(ClosedError):  # the runtime is ending, and its sessions with it
                    session.tasks.start(f"unload {name}", partial(free, session, name, model_id, session.poller()))

    def _custom(
        self, data: Sequence[Datum], loss_fn: Any, differentiation: Differentiation | None, loss_timeout: float
    ) -> tuple[CustomLoss, tuple[Chunk, ...]]:
        server, info = self._session.server_config, self._model.info
        chunks = operations.custom_chunks(data, server=server, info=info)
        return CustomLoss(loss_fn, data, differentiation, loss_timeout), chunks

    def _forward_chunks(
        self,
        data: Sequence[Datum],
        loss_fn: str,
        loss_fn_config: Mapping[str, float | str] | None,
        *,
        forward_only: bool,
    ) -> tuple[Chunk, ...]:
        return operations.forward_chunks(
            data,
            loss_fn,
            loss_fn_config,
            forward_only=forward_only,
            server=self._session.server_config,
            info=self._model.info,
            extra_loss_fns=self._session.config.extra_loss_fns,
        )

    def _sampler_save(
        self, name: str | None, retry_config: RetryConfig | None, kind: SamplerKind
    ) -> tuple[Chunk, int | None, RetryConfig | None]:
        retry = None if retry_config is None else parse_retry("retry_config", retry_config)
        if name is not None:
            return operations.sampler_chunk(name, None, None, kind=kind), None, retry
        operations.require_kind(kind)
        seq_id = self._session.next_sampling_session_seq_id()
        return operations.sampler_chunk(None, seq_id, None, kind=kind), seq_id, retry

    def _sampler_of(
        self, operation: Operation, seq_id: int | None, retry: RetryConfig | None, recorded: bool
    ) -> Callable[[], Awaitable[SamplingClient]]:
        """What makes the client of the weights that ``operation``, just accepted, saves."""
        sampler = Sampler(
            session=self._session.name,
            # that of the sampling session, or of one that is yet to be created
            seq_id=self._session.next_sampling_session_seq_id() if seq_id is None else seq_id,
            model_path=None,
            base_model=None,
            trained_from=self._model.base_model,
            vocabulary=self._model.vocabulary,
            record_stability_info=recorded,
            sampling_session_id=None,
            key=self._session.new_key(),
        )
        model, op_no = self._model, operation.op_no
        model.show(op_no, sampler)
        sampler.shown = Shown(model.ledger, operation)

        async def start() -> SamplingClient:
            try:
                saved: SaveWeightsForSamplerResponse = await operation.future
                if saved.path is None and saved.sampling_session_id is None:
                    given = "the server gives neither a path nor a sampling session"
                    raise APIResponseError(f"save_weights_for_sampler: {given}")
                if saved.path is not None:
                    model.hide(op_no)  # they can be had again without the model
                    sampler.model_path = saved.path
                return await start_sampling_client(
                    self._session, sampler, self._clients, retry, lambda: model.hide(op_no), keeps=self._service
                )
            except BaseException:
                model.hide(op_no)
                raise

        return start

    async def _accept(self, kind: OperationKind, chunks: tuple[Chunk, ...]) -> Future[Any]:
        return (await self._admit(kind, chunks)).future

    async def _admit(
        self, kind: OperationKind, chunks: tuple[Chunk, ...], loss: CustomLoss | None = None
    ) -> Operation:
        self._require_open(kind)
        return await self._acceptance.admit(kind, chunks, loss)

    def _accept_now(
        self, kind: OperationKind, chunks: tuple[Chunk, ...], loss: CustomLoss | None = None
    ) -> Future[Any]:
        return self._admit_now(kind, chunks, loss).future

    def _admit_now(self, kind: OperationKind, chunks: tuple[Chunk, ...], loss: CustomLoss | None = None) -> Operation:
        self._require_open(kind)
        return self._acceptance.admit_now(kind, chunks, loss)

    def _require_open(self, kind: OperationKind) -> None:
        self._session.home.require(self)
        if self._closed or self._unloading:
            raise ClosedError(f"{kind} was not accepted: this client was closed")

    def __repr__(self) -> str:
        return f"<TrainingClient {self._model.ledger.name} {self._model.ledger.model_id}>"


def _check_loss_type(given: object) -> None:
    if given not in (None, "logprobs"):
        raise InvalidInput("loss_type_input", f"{given!r} is none", "Leave it out: a loss gets the log-probabilities")
