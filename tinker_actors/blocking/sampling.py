"""The SamplingClient for threads and asyncio."""

from __future__ import annotations

from collections.abc import Callable
from typing import final

from tinker_actors.blocking.arrival import Arrival
from tinker_actors.blocking.delegate import Handle, answered, blocking, started
from tinker_actors.blocking.engine import Engine
from tinker_actors.blocking.observers import BlockingSubscription, PlainObserver, observe
from tinker_actors.blocking.streaming import BlockingStream
from tinker_actors.blocking.telemetry import telemetry_of
from tinker_actors.clients import sampling as clients
from tinker_actors.clients.sampler_handle import SamplerHandle
from tinker_actors.types import ModelInput, QueueState, SamplingParams

__all__ = ["SamplingClient"]


@final
class SamplingClient(Handle[clients.SamplingClient]):
    """Samples from one set of weights: ``tinker_actors.SamplingClient`` for plain threads and asyncio.

    ``sample`` blocks; ``sample_async`` returns a future at once, so that many samples can be under way.

    It can be pickled, and holds no key then. Where it arrives it works in the runtime that is open in that process
    for the same server. Where none is, its first use opens one, with the key of that process's environment, and that
    ends with the process.
    """

    _arrival: Arrival | None = None

    @classmethod
    def from_sampler_handle(cls, handle: SamplerHandle) -> SamplingClient:
        """The client of ``handle``, which ``get_sampler_handle()`` gave elsewhere; unpickling one does this.

        Nothing is asked of the server before its first use, which raises CredentialError where there is no key.
        """
        client = cls.__new__(cls)
        client._timeout = None  # noqa: SLF001  # its own class
        client._arrival = Arrival(handle)  # noqa: SLF001  # as above
        return client

    def _place(self) -> tuple[Engine, clients.SamplingClient]:
        return (self._engine, self._inner) if self._arrival is None else self._arrival.place()

    def _again(self, timeout: float | None) -> SamplingClient:
        engine, inner = self._place()
        return SamplingClient(engine, inner, timeout)

    def _identity(self) -> object:
        return self._inner if self._arrival is None else self._arrival.handle

    def __reduce__(self) -> tuple[Callable[[SamplerHandle], SamplingClient], tuple[SamplerHandle]]:
        handle = self.get_sampler_handle() if self._arrival is None else self._arrival.handle
        return SamplingClient.from_sampler_handle, (handle,)

    sample = blocking(clients.SamplingClient.sample)
    sample_async = started(clients.SamplingClient.sample)
    compute_logprobs = blocking(clients.SamplingClient.compute_logprobs)
    compute_logprobs_async = started(clients.SamplingClient.compute_logprobs)

    def sample_stream(
        self,
        prompt: ModelInput,
        sampling_params: SamplingParams | None = None,
        *,
        fallback: bool = False,
        timeout: float = 3600.0,
    ) -> BlockingStream:
        """One sample, token by token as the server makes them, within ``timeout`` seconds in all:

            for chunk in sampler.sample_stream(prompt, params):
                print(chunk.token, end="")

        In asyncio ``async for``. It goes through the same limits as ``sample`` and counts as one. Leaving its
        ``with`` block, ``close()``, or letting it go gives up the rest, and the server makes no more. A server that
        can't stream (most can't) raises NotStreamed at the first token; with ``fallback`` the finished sample comes
        in pieces then, and ``stream.fallback`` says so. A stream that breaks off is not begun again. Raises as
        ``sample`` does: InvalidInput and ClosedError at the call.
        """
        engine, inner = self._place()
        return BlockingStream(
            engine,
            lambda: inner.sample_stream(prompt, sampling_params, fallback=fallback, timeout=timeout),
            self._timeout,
        )

    get_base_model = blocking(clients.SamplingClient.get_base_model)
    get_base_model_async = started(clients.SamplingClient.get_base_model)
    get_tokenizer = blocking(clients.SamplingClient.get_tokenizer)
    get_tokenizer_async = started(clients.SamplingClient.get_tokenizer)
    get_sampler_handle = answered(clients.SamplingClient.get_sampler_handle)
    guard_staleness = answered(clients.SamplingClient.guard_staleness)
    get_sampler_info = blocking(clients.SamplingClient.get_sampler_info)
    get_sampler_info_async = started(clients.SamplingClient.get_sampler_info)
    aclose = blocking(clients.SamplingClient.aclose)
    get_telemetry = answered(clients.SamplingClient.get_telemetry, telemetry_of)

    @property
    def closed(self) -> bool:
        """Whether ``aclose`` was called."""
        return self._read("closed", lambda inner: inner.closed)

    @property
    def sampling_session_id(self) -> str:
        """The server's id of these weights."""
        return self._read("sampling_session_id", lambda inner: inner.sampling_session_id)

    @property
    def model_path(self) -> str | None:
        """The checkpoint that the weights came from; None for base models and ephemeral weights."""
        return self._read("model_path", lambda inner: inner.model_path)

    @property
    def shown_op_no(self) -> int | None:
        """The training operation whose weights these are; None where that is not known."""
        return self._read("shown_op_no", lambda inner: inner.shown_op_no)

    @property
    def staleness(self) -> int | None:
        """How many updates the training client of these weights has accepted since; None where none is known."""
        return self._read("staleness", lambda inner: inner.staleness)

    @property
    def queue_state(self) -> QueueState:
        """Whether the server works on these samples now, or has paused."""
        return self._read("queue_state", lambda inner: inner.queue_state.value)

    def on_queue_state_change(self, observer: PlainObserver) -> BlockingSubscription:
        """Have ``observer`` called in a thread with each QueueStateChange, until the subscription is cancelled.

        At most once a second, and none may take longer than ten. Raises InvalidInput for what can't be called, and
        for an async function, which has no loop here.
        """
        engine, inner = self._place()
        return observe(engine, inner.on_queue_state_change, observer)
