"""The SamplingClient: samples from one set of weights. Its hot path runs in the caller's own task."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, final, get_args

import msgspec
import trio
from trio_util import AsyncValue

from supervision import ActorRef, SupervisorRef
from tinker_actors.checks import flag, integer, number
from tinker_actors.clients.base_model import find_base_model
from tinker_actors.clients.closing import closed_as_such, stop_child
from tinker_actors.clients.letting_go import stopped_when_gone
from tinker_actors.clients.sample_request import checked_request, require_honoured
from tinker_actors.clients.sampler import GetSamplerInfo, Sampler, SamplerInfo, SamplingActor, close_sampler
from tinker_actors.clients.sampler_handle import SamplerHandle
from tinker_actors.clients.spec import client_spec
from tinker_actors.clients.streaming import StreamedSample, open_stream
from tinker_actors.config import RetryConfig
from tinker_actors.errors import (
    APIResponseError,
    ClosedError,
    InvalidInput,
    ModelLost,
    OutageError,
    RequestFailedError,
    StaleSampler,
    TinkerError,
)
from tinker_actors.flow.patience import OutOfPatience, Patience, brief
from tinker_actors.flow.pending import PendingEntry
from tinker_actors.flow.queue_state import Observer, QueueSubscription
from tinker_actors.flow.reaction import Reaction, while_submitting
from tinker_actors.ledger import Future
from tinker_actors.ports.spans import Span
from tinker_actors.sessions import Session
from tinker_actors.telemetry import Telemetry
from tinker_actors.types import (
    ByteEstimator,
    ModelInput,
    Promise,
    QueueState,
    SampleRequest,
    SampleResponse,
    SamplingParams,
    TensorData,
)
from tinker_actors.wire.endpoints.sampling import asample

if TYPE_CHECKING:
    from tinker_actors.clients.service import ServiceClient
    from tinker_actors.polling import Poller
    from tinker_actors.tokenizers import Tokenizer

__all__ = ["Sampler", "SamplerInfo", "SamplingClient", "start_sampling_client"]

_log = logging.getLogger("tinker_actors.clients")

_SEED_BITS = 31

OnStale: TypeAlias = Literal["refuse", "warn"]


@final
class SamplingClient:
    """Samples from one set of weights.

    Any number of tasks may sample at once, up to the server's own limit; further ones wait their turn. A
    sample belongs to its caller: cancelling the caller gives it up, and the server is told where it offers that.
    A client that is let go is closed.
    """

    def __init__(
        self,
        session: Session,
        sampler: Sampler,
        ref: ActorRef,
        clients: SupervisorRef,
        name: str,
        *,
        retry: RetryConfig | None,
        keeps: object,
    ) -> None:
        self._session = session
        self._sampler = sampler
        self._ref = ref
        self._clients = clients
        self._name = name
        self._handler = session.retry_handler(retry)
        self._poller: Poller = session.poller(self._handler)
        self._closed = False
        self._guard: tuple[int, OnStale] | None = None
        self._warn_above = 0
        self._unclosed = stopped_when_gone(self, session.tasks, clients, name, keeps=keeps)

    @property
    def sampling_session_id(self) -> str:
        """The server's id of these weights."""
        assert self._sampler.sampling_session_id is not None
        return self._sampler.sampling_session_id

    @property
    def closed(self) -> bool:
        """Whether ``aclose`` was called."""
        return self._closed

    def get_sampler_handle(self) -> SamplerHandle:
        """This client as a value without any key, for another process: see ``create_sampling_client_from_handle``."""
        session, sampler = self._session, self._sampler
        return SamplerHandle(
            base_url=session.config.base_url,
            session_id=session.session_id,
            sampling_session_id=self.sampling_session_id,
            model_path=sampler.model_path,
            base_model=sampler.base_model,
            known_model=sampler.known_model,
            record_stability_info=sampler.record_stability_info,
        )

    def __reduce__(self) -> str:
        raise TypeError(
            "a SamplingClient of a trio program is not pickled: pickle its get_sampler_handle(), and give that to "
            "create_sampling_client_from_handle() of the other process's runtime"
        )

    @property
    def model_path(self) -> str | None:
        """The checkpoint that the weights came from; None for base models and ephemeral weights."""
        return self._sampler.model_path

    @property
    def shown_op_no(self) -> int | None:
        """The training operation whose weights these are, numbered as ``TrainingClient.accepted`` is; None for base
        models, and weights that no client of this session has saved.
        """
        shown = self._sampler.shown
        return None if shown is None else shown.op_no

    @property
    def staleness(self) -> int | None:
        """How many updates the training client of these weights has accepted since; None where none is known."""
        shown = self._sampler.shown
        return None if shown is None else shown.behind

    def guard_staleness(self, max_updates: int, *, on_stale: OnStale = "refuse") -> None:
        """Mind how old these weights are: with a ``staleness`` above ``max_updates``, samples raise StaleSampler and
        nothing is sent; with ``on_stale="warn"`` they are logged, at the first and whenever it has doubled.

        Raises InvalidInput for weights whose training client isn't known here.
        """
        limit = integer("max_updates", max_updates, "Allow 0 or more updates", low=0)
        if on_stale not in get_args(OnStale):
            raise InvalidInput("on_stale", f"{on_stale!r} is none", 'Use "refuse" or "warn"')
        self._session.home.require(self)
        if self._sampler.shown is None:
            problem = f"can't be minded: no training client of this session has saved the weights of {self._name}"
            raise InvalidInput("staleness", problem, "Make the client by the training client that saves its weights")
        self._guard = (limit, on_stale)
        self._warn_above = limit

    @property
    def queue_state(self) -> AsyncValue[QueueState]:
        """Whether the server works on these samples, or has paused; read it or wait for a value."""
        return self._sampler.queue.state

    def on_queue_state_change(self, observer: Observer) -> QueueSubscription:
        """Have ``observer`` called with each QueueStateChange of this client, until the subscription is cancelled.

        An async function is called on the loop, a plain one in a thread; at most once a second, and none may take
        longer than ten. Raises InvalidInput for what can't be called.
        """
        self._session.home.require(self)
        return self._session.observe(self._sampler.queue, observer)

    def get_telemetry(self) -> Telemetry | None:
        """Where to record events of this client's session; None when telemetry is off."""
        return self._session.telemetry

    async def sample(  # noqa: PLR0917  # as in the official SDK
        self,
        prompt: ModelInput,
        num_samples: int = 1,
        sampling_params: SamplingParams | None = None,
        include_prompt_logprobs: bool = False,
        topk_prompt_logprobs: int = 0,
        topk_sample_logprobs: int = 0,
        target_prompt_logprobs: TensorData | None = None,
        prompt_alt_tokens_k: int = 0,
        prompt_logprobs_last_n: int | None = None,
    ) -> SampleResponse:
        """Sample ``num_samples`` continuations of ``prompt``.

        Besides it gives log-probabilities: with ``include_prompt_logprobs`` of the prompt's tokens (of the last
        ``prompt_logprobs_last_n``), the ``topk_prompt_logprobs`` and ``topk_sample_logprobs`` likeliest tokens at
        each place, ``prompt_alt_tokens_k`` others drawn at each place of the prompt, and those of
        ``target_prompt_logprobs``, int64 token ids of shape [prompt length - 1, K], -1 for none.

        Without a seed in ``sampling_params`` the client sends one of its own, so that a repeated request gives the
        same answer. Raises InvalidInput before anything is sent, RequestFailedError when the server says that it
        failed, APIResponseError where it does not give what was asked for, OutageError after the outage bound.
        """
        return await self._run(
            self._request(
                prompt,
                num_samples,
                sampling_params,
                prompt_logprobs=include_prompt_logprobs,
                topk_prompt_logprobs=topk_prompt_logprobs,
                topk_sample_logprobs=topk_sample_logprobs,
                target_prompt_logprobs=target_prompt_logprobs,
                prompt_alt_tokens_k=prompt_alt_tokens_k,
                prompt_logprobs_last_n=prompt_logprobs_last_n,
            )
        )

    def sample_async(  # noqa: PLR0917  # as in the official SDK
        self,
        prompt: ModelInput,
        num_samples: int = 1,
        sampling_params: SamplingParams | None = None,
        include_prompt_logprobs: bool = False,
        topk_prompt_logprobs: int = 0,
        topk_sample_logprobs: int = 0,
        target_prompt_logprobs: TensorData | None = None,
        prompt_alt_tokens_k: int = 0,
        prompt_logprobs_last_n: int | None = None,
    ) -> Future[SampleResponse]:
        """``sample``, started at once in a task of the runtime's."""
        request = self._request(
            prompt,
            num_samples,
            sampling_params,
            prompt_logprobs=include_prompt_logprobs,
            topk_prompt_logprobs=topk_prompt_logprobs,
            topk_sample_logprobs=topk_sample_logprobs,
            target_prompt_logprobs=target_prompt_logprobs,
            prompt_alt_tokens_k=prompt_alt_tokens_k,
            prompt_logprobs_last_n=prompt_logprobs_last_n,
        )
        return self._session.tasks.start("sample", lambda: self._run(request))

    def compute_logprobs_async(
        self, prompt: ModelInput, prompt_logprobs_last_n: int | None = None
    ) -> Future[tuple[float | None, ...]]:
        """``compute_logprobs``, started at once in a task of the runtime's."""
        self._session.home.require(self)
        return self._session.tasks.start(
            "compute_logprobs", lambda: self.compute_logprobs(prompt, prompt_logprobs_last_n)
        )

    def sample_stream(
        self,
        prompt: ModelInput,
        sampling_params: SamplingParams | None = None,
        *,
        fallback: bool = False,
        timeout: float = 3600.0,
    ) -> AbstractAsyncContextManager[StreamedSample]:
        """One sample, token by token as the server makes them, within ``timeout`` seconds in all:

            async with client.sample_stream(prompt, params) as stream:
                async for chunk in stream:
                    print(chunk.token, end="")

        It goes through the same limits as ``sample`` and counts as one. Leaving the block gives up the rest, and the
        server makes no more. A server that can't stream (most can't) raises NotStreamed; with ``fallback`` the
        finished sample comes in pieces then, and ``stream.fallback`` says so. A stream that breaks off is not begun
        again. Raises as ``sample`` does.
        """
        timeout = number("timeout", timeout, "Give a number of seconds above 0")
        if not timeout > 0:
            raise InvalidInput("timeout", f"{timeout} is no length of time", "Give a number of seconds above 0")
        return self._stream(self._request(prompt, 1, sampling_params), timeout, flag("fallback", fallback))

    async def compute_logprobs(
        self, prompt: ModelInput, prompt_logprobs_last_n: int | None = None
    ) -> tuple[float | None, ...]:
        """The log-probability of each prompt token after those before it; None for the first.

        With ``prompt_logprobs_last_n`` of the last tokens alone, None for all before them.
        Raises as ``sample`` does, and APIResponseError when the server does not give one for each token.
        """
        response = await self.sample(
            prompt,
            1,
            SamplingParams(max_tokens=1, temperature=0.0),
            include_prompt_logprobs=True,
            prompt_logprobs_last_n=prompt_logprobs_last_n,
        )
        logprobs = response.prompt_logprobs
        known = prompt.known_length
        if logprobs is None or (known is not None and len(logprobs) != known):
            given = "no" if logprobs is None else str(len(logprobs))
            of = "" if known is None else f" of {known} tokens"
            raise APIResponseError(f"the server gives {given} prompt_logprobs for a prompt{of}")
        return logprobs

    @staticmethod
    def create_async(
        service: ServiceClient,
        *,
        model_path: str | None = None,
        base_model: str | None = None,
        retry_config: RetryConfig | None = None,
        record_stability_info: bool = False,
    ) -> Future[SamplingClient]:
        """``service.create_sampling_client_async``."""
        return service.create_sampling_client_async(
            model_path=model_path,
            base_model=base_model,
            retry_config=retry_config,
            record_stability_info=record_stability_info,
        )

    async def get_sampler_info(self) -> SamplerInfo:
        """Which weights this client samples from."""
        self._session.home.require(self)
        with closed_as_such("get_sampler_info"):
            return await self._ref.call(GetSamplerInfo())

    async def get_base_model(self) -> str:
        """The name of the base model; the server is asked once where it is not known here: for weights by path.

        Raises the server's refusal as it came, and APIResponseError where it does not say.
        """
        self._session.home.require(self)
        sampler = self._sampler
        if sampler.known_model is None:
            with closed_as_such("get_base_model"):
                sampler.known_model = await find_base_model(self._session, sampler)
        return sampler.known_model

    def get_base_model_async(self) -> Future[str]:
        """``get_base_model``, started at once in a task of the runtime's."""
        self._session.home.require(self)
        return self._session.tasks.start("get_base_model", self.get_base_model)

    async def get_tokenizer(self) -> Tokenizer:
        """The tokenizer of the base model, loaded once for all clients of the runtime.

        It is the one that ``Config.tokenizers`` has for that, or comes from the package or the Hugging Face hub. For
        weights by path the server is asked for their base model. Raises as ``get_base_model`` does, and InvalidInput
        when there is none.
        """
        from tinker_actors.clients.tokenizing import load_tokenizer
        from tinker_actors.tokenizers import tokenizer_name_of

        base_model = await self.get_base_model()
        return await load_tokenizer(self._session, (base_model,), lambda: tokenizer_name_of(base_model))

    def get_sampler_info_async(self) -> Future[SamplerInfo]:
        """``get_sampler_info``, started at once in a task of the runtime's."""
        self._session.home.require(self)
        return self._session.tasks.start("get_sampler_info", self.get_sampler_info)

    def get_tokenizer_async(self) -> Future[Tokenizer]:
        """``get_tokenizer``, started at once in a task of the runtime's."""
        self._session.home.require(self)
        return self._session.tasks.start("get_tokenizer", self.get_tokenizer)

    async def aclose(self) -> None:
        """Stop this client. Samples under way end with their callers."""
        self._session.home.require(self)
        if self._closed:
            await trio.lowlevel.checkpoint()
            return
        self._closed = True
        self._unclosed.detach()
        await stop_child(self._clients, self._name)

    def _request(
        self,
        prompt: ModelInput,
        num_samples: int,
        sampling_params: SamplingParams | None,
        **more: Any,
    ) -> SampleRequest:
        """A checked request, its sampling session and number left open."""
        request = checked_request(
            prompt,
            num_samples,
            sampling_params,
            record_stability_info=self._sampler.record_stability_info,
            vocabulary=self._sampler.vocabulary,
            **more,
        )
        self._session.home.require(self)
        if self._closed:
            raise ClosedError("sample was not sent: this client was closed")
        session = self._session
        session.require_open()
        self._mind_staleness()
        params = request.sampling_params
        if params.seed is None:
            params = msgspec.structs.replace(params, seed=session.seeds.getrandbits(_SEED_BITS))
        return msgspec.structs.replace(request, sampling_params=params)

    async def _run(self, request: SampleRequest) -> SampleResponse:
        session = self._session
        entry = session.pending.open(f"{session.name}/{self._name}", "sample", "waiting")
        entry.enter("waiting", "as many as the server bears are in flight", expected=True)
        span = session.spans.begin("sample", {"tinker.sampling_session_id": self.sampling_session_id})
        span.enter("queue")
        try:
            async with session.limits.sampling.in_flight(), self._handler.connection():
                return await self._sample(request, entry, span)
        except TinkerError as error:
            session.failed(entry.name, "sample", error)
            span.end(error)
            raise
        finally:
            span.end()
            session.pending.close(entry)

    @asynccontextmanager
    async def _stream(self, request: SampleRequest, timeout: float, fallback: bool) -> AsyncGenerator[StreamedSample]:
        session = self._session
        entry = session.pending.open(f"{session.name}/{self._name}", "sample_stream", "waiting")
        entry.enter("waiting", "as many as the server bears are in flight", expected=True)
        span = session.spans.begin("sample_stream", {"tinker.sampling_session_id": self.sampling_session_id})
        try:
            async with (
                session.limits.sampling.in_flight(),
                self._handler.connection(),
                open_stream(
                    session,
                    self._sampler,
                    self._poller,
                    request,
                    entry,
                    timeout=timeout,
                    whole=(lambda: self._sample(request, entry, span)) if fallback else None,
                    comes_back=self._comes_back,
                    failure=self._failure,
                    ended=lambda sampled: self._count(request, sampled, entry),
                ) as stream,
            ):
                yield stream
        except TinkerError as error:
            session.failed(entry.name, "sample_stream", error)
            span.end(error)
            raise
        finally:
            span.end()
            session.pending.close(entry)

    async def _sample(self, request: SampleRequest, entry: PendingEntry, span: Span) -> SampleResponse:
        session = self._session
        dispatch = session.limits.sampling
        size = ByteEstimator().prompt(request.prompt)
        lost_since: float | None = None

        def held_back(reason: str) -> None:
            entry.enter("waiting", reason)

        while True:
            seq_id = self._sampler.next_seq_id()
            entry.name = f"{session.name}/{self._name}/{seq_id}"
            sampling_session_id, generation = await self._sampler.ready(session, entry), session.generation
            numbered = msgspec.structs.replace(request, seq_id=seq_id, sampling_session_id=sampling_session_id)
            entry.enter("waiting", "its turn to be sent", expected=True)
            key = session.new_key()
            began = trio.current_time()
            try:
                session.points.reach("sampling.before_send", entry.name)
                patience = self._poller.patience()

                async def send(
                    numbered: SampleRequest = numbered, key: str = key, patience: Patience = patience
                ) -> Promise:
                    entry.enter("sent")
                    span.enter("send")
                    with span.current():
                        return await asample(session.api, numbered, key=key, attempt=patience.tries)

                promise = await patience.persist(
                    lambda send=send: dispatch.attempt(send, size, held_back), while_submitting, entry.explain
                )
            except OutOfPatience as gone:
                lost_since = began if lost_since is None else lost_since
                if trio.current_time() - lost_since < session.config.outage_bound and await self._comes_back(
                    gone, sampling_session_id, generation
                ):
                    continue
                raise self._failure(gone, "be sent") from gone.error
            entry.enter("promised")
            span.enter("poll")
            roundtrip = trio.current_time() - began
            try:
                with session.cancellations.unless_settled(promise.request_id):
                    await self._sampler.completions.until_there(promise.request_id)
                    response = await self._poller.result(
                        promise.request_id,
                        SampleResponse,
                        entry,
                        request_type="Sample",
                        point="sampling.polling",
                        on_queue_state=self._sampler.queue.report,
                        roundtrip=roundtrip,
                        span=span,
                    )
            except OutOfPatience as gone:
                if gone.reaction is not Reaction.LOST or session.over:
                    raise self._failure(gone, "get its result") from gone.error
                # the promise expired or the server restarted: the sample is asked for anew, but not for ever
                now = trio.current_time()
                lost_since = now if lost_since is None else lost_since
                if now - lost_since >= session.config.outage_bound:
                    raise self._failure(gone, "get its result") from gone.error
                _log.warning("%s: %s; sampling again", entry.name, gone.error)
                session.doubt()
                session.metrics.add("samples_repeated")
                span.enter("queue")
                await trio.sleep(session.random.uniform(0.0, 1.0))
                continue
            except RequestFailedError as failed:
                lost_since = began if lost_since is None else lost_since
                if (
                    trio.current_time() - lost_since >= session.config.outage_bound
                    or not await self._session_was_lost(generation)
                ):
                    raise
                _log.warning("%s: %s; sampling again", entry.name, failed)
                session.metrics.add("samples_repeated")
                span.enter("queue")
                continue
            self._sampler.completions.fetched(promise.request_id)
            if len(response.sequences) != request.num_samples:
                given = f"{len(response.sequences)} sequences where {request.num_samples} are due"
                raise APIResponseError(f"{entry.name}: the server gives {given} (request {promise.request_id})")
            self._count(request, sum(len(one.tokens) for one in response.sequences), entry)
            require_honoured(request, response)
            return _with_ids(response, promise.sample_sequence_ids)

    def _mind_staleness(self) -> None:
        shown = self._sampler.shown
        if self._guard is None or shown is None:
            return
        behind, (limit, on_stale) = shown.behind, self._guard
        if behind <= limit:
            self._warn_above = limit
            return
        text = (
            f"{self._name} has the weights of {shown.name}#{shown.op_no}, {behind} updates ago ({limit} are allowed)"
        )
        if on_stale == "refuse":
            raise StaleSampler(f"sample was not sent: {text}. Save the weights anew", operation=self._name)
        if behind > self._warn_above:
            self._warn_above = 2 * behind
            _log.warning("%s", text)

    async def _comes_back(self, gone: OutOfPatience, sampling_session_id: str, generation: int) -> bool:
        """Whether the weights that the server no longer holds are to be had again, so that waiting for them helps."""
        session, sampler = self._session, self._sampler
        if gone.reaction is not Reaction.LOST or session.config.recovery is None:
            return False
        await session.confirm()
        if session.generation == generation:  # the session lives: it has lost these weights alone
            if sampler.ephemeral:
                return False
            sampler.miss(sampling_session_id)
        return True

    async def _session_was_lost(self, generation: int) -> bool:
        """Whether a sample has failed with its session, which servers say in words of their own only."""
        session = self._session
        if session.config.recovery is None:
            return False
        await session.confirm()
        return session.generation != generation and not session.over

    def _count(self, request: SampleRequest, sampled: int, entry: PendingEntry) -> None:
        session = self._session
        prompted = request.prompt.known_length or 0
        session.metrics.add("samples_done")
        session.metrics.add("tokens_prompted", prompted)
        session.metrics.add("tokens_sampled", sampled)
        session.metrics.observe("sample_seconds", entry.snapshot().age)
        session.usage.add(self._sampler.counted_as, prompted=prompted, sampled=sampled)

    def _failure(self, gone: OutOfPatience, what: str) -> TinkerError:
        if gone.reaction is Reaction.REPEAT or gone.overdue:
            return OutageError(
                f"a sample of {self._name} could not {what}: no usable answer for {gone.lasted:.0f} s, last "
                f"{brief(gone.error)}. Check the server and the network. Waiting:",
                operation=self._name,
                pending=self._session.pending.lines(),
            )
        if gone.reaction is Reaction.LOST:
            self._session.doubt()
            return ModelLost(
                f"a sample of {self._name} could not {what}: the server no longer holds its session or weights "
                f"({gone.error.fact}). Create a new sampling client from a saved path",
                operation=self._name,
            )
        return gone.error

    def __repr__(self) -> str:
        return f"<SamplingClient {self._name} {self._sampler.sampling_session_id}>"


async def start_sampling_client(
    session: Session,
    sampler: Sampler,
    clients: SupervisorRef,
    retry: RetryConfig | None = None,
    on_close: Callable[[], object] | None = None,
    *,
    keeps: object,
) -> SamplingClient:
    """Start the actor under ``clients`` and return its handle. ``on_close`` is called when its place closes.

    The client ``keeps`` another handle from being let go.
    """
    name = f"sampler-{sampler.seq_id}"
    if sampler.shown is None and sampler.model_path is not None:
        sampler.shown = session.shown(sampler.model_path)

    def close() -> None:
        close_sampler(sampler)
        if on_close is not None:
            on_close()

    spec = client_spec(name, lambda: SamplingActor(session, sampler), on_close=lambda _: close())
    with closed_as_such("creating a sampling client"):
        ref = await clients.start_child(spec)
    return SamplingClient(session, sampler, ref, clients, name, retry=retry, keeps=keeps)


def _with_ids(response: SampleResponse, ids: tuple[str, ...] | None) -> SampleResponse:
    # servers older than SDK 0.26 promise no sequence ids
    if ids is None or len(ids) != len(response.sequences):
        return response
    sequences = tuple(
        msgspec.structs.replace(sequence, sequence_id=id_)
        for sequence, id_ in zip(response.sequences, ids, strict=True)
    )
    return msgspec.structs.replace(response, sequences=sequences)
