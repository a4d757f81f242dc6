"""The SamplingClient: samples from one set of weights. Its hot path runs in the caller's own task."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any, final

import msgspec
import trio
from trio_util import AsyncValue

from supervision import ActorRef, SupervisorRef
from tinker_actors.checks import flag, number
from tinker_actors.clients.base_model import find_base_model
from tinker_actors.clients.closing import closed_as_such, stop_child
from tinker_actors.clients.letting_go import stopped_when_gone
from tinker_actors.clients.sample_request import checked_request
from tinker_actors.clients.sampler import GetSamplerInfo, Sampler, SamplerInfo, SamplingActor, close_sampler
from tinker_actors.clients.sampler_handle import SamplerHandle
from tinker_actors.clients.samples import Samples
from tinker_actors.clients.spec import client_spec
from tinker_actors.clients.stale_guard import OnStale, StalenessGuard
from tinker_actors.clients.streaming import StreamedSample
from tinker_actors.config import RetryConfig
from tinker_actors.errors import (
    APIResponseError,
    ClosedError,
    InvalidInput,
)
from tinker_actors.flow.queue_state import Observer, QueueSubscription
from tinker_actors.ledger import Future
from tinker_actors.sessions import Session
from tinker_actors.telemetry import Telemetry
from tinker_actors.types import (
    ModelInput,
    QueueState,
    SampleRequest,
    SampleResponse,
    SamplingParams,
    TensorData,
)

if TYPE_CHECKING:
    from tinker_actors.clients.service import ServiceClient
    from tinker_actors.tokenizers import Tokenizer

__all__ = ["Sampler", "SamplerInfo", "SamplingClient", "start_sampling_client"]

_log = logging.getLogger("tinker_actors.clients")

_SEED_BITS = 31


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
        self._samples = Samples(session, sampler, name, session.retry_handler(retry))
        self._closed = False
        self._staleness = StalenessGuard(sampler, name)
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
        self._session.home.require(self)
        self._staleness.set(max_updates, on_stale)

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
        return await self._samples.run(
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
        return self._session.tasks.start("sample", lambda: self._samples.run(request))

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
        self._staleness.mind()
        params = request.sampling_params
        if params.seed is None:
            params = msgspec.structs.replace(params, seed=session.seeds.getrandbits(_SEED_BITS))
        return msgspec.structs.replace(request, sampling_params=params)

    @asynccontextmanager
    async def _stream(self, request: SampleRequest, timeout: float, fallback: bool) -> AsyncGenerator[StreamedSample]:
        async with self._samples.stream(request, timeout, fallback) as stream:  # a client with a stream is not let go
            yield stream

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
