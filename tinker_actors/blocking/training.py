"""The TrainingClient for threads and asyncio."""

from __future__ import annotations

from typing import Any, final

from tinker_actors.blocking.checkpoints import BlockingCheckpoints
from tinker_actors.blocking.delegate import Handle, accepted, answered, at_once, blocking
from tinker_actors.blocking.engine import Engine
from tinker_actors.blocking.future import BlockingFuture
from tinker_actors.blocking.observers import BlockingSubscription, PlainObserver, observe
from tinker_actors.blocking.sampling import SamplingClient
from tinker_actors.blocking.telemetry import telemetry_of
from tinker_actors.clients import training as clients
from tinker_actors.errors import OperationError
from tinker_actors.ledger import AcceptedOperation, Future
from tinker_actors.types import QueueState

__all__ = ["TrainingClient"]


def _adopted(engine: Engine, futures: tuple[Future[Any], ...]) -> tuple[BlockingFuture[Any], ...]:
    return tuple([engine.adopt(future, "the operation") for future in futures])


@final
class TrainingClient(Handle[clients.TrainingClient]):
    """One model in training: ``tinker_actors.TrainingClient`` for plain threads and asyncio.

    Training operations take effect in the order in which they were accepted, which is the order of the calls: each
    method returns a future once its operation is accepted, and waits where too many are unfinished.

        step = client.forward_backward(data, "cross_entropy")
        update = client.optim_step(AdamParams(learning_rate=1e-3))
        print(step.result().metrics["loss:sum"], update.result().metrics)    # in asyncio: (await step).metrics

    The ``_async`` twin of a training operation never waits: it accepts at the call or raises. An error of either
    means that nothing was accepted or sent.
    """

    forward = accepted(clients.TrainingClient.forward)
    forward_async = at_once(clients.TrainingClient.forward_async)
    forward_backward = accepted(clients.TrainingClient.forward_backward)
    forward_backward_async = at_once(clients.TrainingClient.forward_backward_async)
    forward_backward_custom = accepted(clients.TrainingClient.forward_backward_custom)
    forward_backward_custom_async = at_once(clients.TrainingClient.forward_backward_custom_async)
    optim_step = accepted(clients.TrainingClient.optim_step)
    optim_step_async = at_once(clients.TrainingClient.optim_step_async)
    save_state = accepted(clients.TrainingClient.save_state)
    save_state_async = at_once(clients.TrainingClient.save_state_async)
    load_state = accepted(clients.TrainingClient.load_state)
    load_state_async = at_once(clients.TrainingClient.load_state_async)
    load_state_with_optimizer = accepted(clients.TrainingClient.load_state_with_optimizer)
    load_state_with_optimizer_async = at_once(clients.TrainingClient.load_state_with_optimizer_async)
    save_weights_for_sampler = accepted(clients.TrainingClient.save_weights_for_sampler)
    save_weights_for_sampler_async = at_once(clients.TrainingClient.save_weights_for_sampler_async)
    save_weights_external = accepted(clients.TrainingClient.save_weights_external)
    save_weights_external_async = at_once(clients.TrainingClient.save_weights_external_async)
    save_weights_and_get_sampling_client = blocking(
        clients.TrainingClient.save_weights_and_get_sampling_client, SamplingClient
    )
    save_weights_and_get_sampling_client_async = at_once(
        clients.TrainingClient.save_weights_and_get_sampling_client_async, SamplingClient
    )
    create_sampling_client = blocking(clients.TrainingClient.create_sampling_client, SamplingClient)
    create_sampling_client_async = at_once(clients.TrainingClient.create_sampling_client_async, SamplingClient)
    restore = blocking(clients.TrainingClient.restore, _adopted)
    restore_async = at_once(clients.TrainingClient.restore_async, _adopted)
    assume_applied = blocking(clients.TrainingClient.assume_applied, _adopted)
    assume_applied_async = at_once(clients.TrainingClient.assume_applied_async, _adopted)
    abandon = blocking(clients.TrainingClient.abandon)
    abandon_async = at_once(clients.TrainingClient.abandon_async)
    unload_model = blocking(clients.TrainingClient.unload_model)
    unload_model_async = at_once(clients.TrainingClient.unload_model_async)
    get_info = blocking(clients.TrainingClient.get_info)
    get_info_async = at_once(clients.TrainingClient.get_info_async)
    get_tokenizer = blocking(clients.TrainingClient.get_tokenizer)
    get_tokenizer_async = at_once(clients.TrainingClient.get_tokenizer_async)
    aclose = blocking(clients.TrainingClient.aclose)
    get_telemetry = answered(clients.TrainingClient.get_telemetry, telemetry_of)

    @property
    def verdict(self) -> OperationError | None:
        """What waits for a decision: ``restore``, ``assume_applied`` or ``abandon``; None: nothing does."""
        return self._read("verdict", lambda inner: inner.verdict)

    @property
    def model_id(self) -> str:
        """The server's id of the model."""
        return self._read("model_id", lambda inner: inner.model_id)

    @property
    def accepted(self) -> tuple[AcceptedOperation, ...]:
        """The accepted operations, in order, with the digests of their chunks: the latest 65,536."""
        return self._read("accepted", lambda inner: inner.accepted)

    @property
    def checkpoints(self) -> BlockingCheckpoints:
        """The checkpoints that are saved by themselves: those that there are, and what becomes of them."""
        return BlockingCheckpoints(self._engine, self._read("checkpoints", lambda inner: inner.checkpoints))

    @property
    def queue_state(self) -> QueueState:
        """Whether the server works on this model's operations now, or has paused."""
        return self._read("queue_state", lambda inner: inner.queue_state.value)

    def on_queue_state_change(self, observer: PlainObserver) -> BlockingSubscription:
        """Have ``observer`` called in a thread with each QueueStateChange, until the subscription is cancelled.

        At most once a second, and none may take longer than ten. Raises InvalidInput for what can't be called, and
        for an async function, which has no loop here.
        """
        engine, inner = self._place()
        return observe(engine, inner.on_queue_state_change, observer)
