"""The blocking handles: complete, and each method means what the trio handle's does."""

from __future__ import annotations

import asyncio
import inspect
import io
import threading
from collections.abc import Generator
from typing import Any

import pytest

from tests.blocking.programs import BASE_MODEL, PROMPT, SHORT, batch, start
from tests.blocking.served import Served, served
from tinker_actors import blocking, clients, metrics, recovery, runtime
from tinker_actors.clients import rest
from tinker_actors.clients.training.checkpoints import AutomaticCheckpoints
from tinker_actors.config import RecoveryPolicy
from tinker_actors.errors import ClosedError, CredentialError, InvalidInput, RequestFailedError
from tinker_actors.recovery.jobs import Job
from tinker_actors.sessions import SessionState
from tinker_actors.telemetry import capture_exceptions
from tinker_actors.types import AdamParams, QueueState

PAIRS = (
    (runtime.Runtime, blocking.BlockingRuntime),
    (clients.ServiceClient, blocking.ServiceClient),
    (clients.TrainingClient, blocking.TrainingClient),
    (clients.SamplingClient, blocking.SamplingClient),
    (rest.RestClient, blocking.RestClient),
    (metrics.Metrics, blocking.BlockingMetrics),
    (AutomaticCheckpoints, blocking.BlockingCheckpoints),
    (Job, blocking.BlockingJob),
    (recovery.Recovery, blocking.BlockingRecovery),
)
WITHOUT = {
    "Runtime.system": "actors of the user's own are written for trio, and so is the program that starts them",
    "Runtime.end_as": "for open_runtime: close(end) here",
    "Runtime.watch": "for open_runtime",
    "Runtime.end_tasks": "for open_runtime",
    "Job.stepped": "for its client",
    "Job.accepted": "for its client",
    "Job.finish": "for its block",
    "Job.leave": "for its block",
    "ServiceClient.seeds": "for jobs",
    "AutomaticCheckpoints.operations": "for jobs",
    "AutomaticCheckpoints.judge": "for jobs",
    "AutomaticCheckpoints.sent_by": "for the client",
    "AutomaticCheckpoints.drained": "for jobs",
    "Recovery.show_clients_as": "for the blocking front",
    "Recovery.scores": "for jobs",
    "AutomaticCheckpoints.kept": "for their keeper",
    "AutomaticCheckpoints.begin_at": "for jobs",
    "AutomaticCheckpoints.follow": "for jobs",
    "AutomaticCheckpoints.after": "for the client",
    "AutomaticCheckpoints.close": "for the client",
    "SamplingClient.create_async": "ServiceClient.create_sampling_client_async here",
}
NO_TWIN = {
    "aclose": "it is the end",
    "close": "it is the end",
}


@pytest.fixture(scope="module")
def server() -> Generator[Served]:
    with served() as server:
        yield server


def _public(kind: type) -> dict[str, Any]:
    return {name: inspect.getattr_static(kind, name) for name in dir(kind) if not name.startswith("_")}


@pytest.mark.parametrize(("inner", "outer"), PAIRS, ids=[inner.__name__ for inner, _ in PAIRS])
def test_every_method_has_its_counterpart_or_a_reason(inner: type, outer: type) -> None:
    for name, value in _public(inner).items():
        if f"{inner.__name__}.{name}" in WITHOUT:
            assert not hasattr(outer, name)
            continue
        found = inspect.getattr_static(outer, name, None)
        assert found is not None, f"{outer.__name__} has no {name}, and no reason stands here"
        assert isinstance(found, property) == isinstance(value, property), name
        if not isinstance(value, property):
            (_, *ours), (_, *theirs) = [inspect.signature(method).parameters.values() for method in (found, value)]
            if name != "on_queue_state_change":
                assert ours == theirs
                assert found.__doc__ == value.__doc__ or name.endswith("_async") or name == "sample_stream"


@pytest.mark.parametrize(("inner", "outer"), PAIRS, ids=[inner.__name__ for inner, _ in PAIRS])
def test_what_blocks_has_a_twin_that_gives_a_future(inner: type, outer: type) -> None:
    for name, value in _public(inner).items():
        if inspect.iscoroutinefunction(value) and name not in NO_TWIN and f"{inner.__name__}.{name}" not in WITHOUT:
            assert hasattr(outer, f"{name}_async"), f"{outer.__name__} has no {name}_async"


def test_a_plain_program_trains_and_samples(server: Served) -> None:
    with server.runtime() as runtime:
        service, client = start(runtime)
        assert service.state is SessionState.ACTIVE
        assert client.model_id.startswith(service.session_id)
        first = client.forward_backward(batch(1, 2))
        client.optim_step(AdamParams(learning_rate=0.1))
        after = client.forward_async(batch(1, 2))
        assert after.result(timeout=60).metrics["loss:sum"] < first.result().metrics["loss:sum"]
        assert [operation.kind for operation in client.accepted] == ["forward_backward", "optim_step", "forward"]

        saved = client.save_state("kept").result()
        client.load_state(saved.path).result()
        client.load_state_with_optimizer_async(saved.path).result()
        assert client.save_weights_for_sampler("mine", 60).result().path is not None
        assert client.get_info().model_id == client.get_info_async().result().model_id == client.model_id
        tokenizer = client.get_tokenizer()
        assert tokenizer.decode(tokenizer.encode("Pig Latin")) == "Pig Latin"

        sampler = client.save_weights_and_get_sampling_client()
        assert sampler.queue_state is QueueState.ACTIVE
        one = sampler.sample(PROMPT, 2, SHORT)
        assert len(one.sequences) == 2
        again = [sampler.sample_async(PROMPT, 2, SHORT) for _ in range(3)]
        assert all(
            future.result().sequences[1].tokens.tolist() == one.sequences[1].tokens.tolist() for future in again
        )
        assert sampler.compute_logprobs(PROMPT) == sampler.compute_logprobs_async(PROMPT).result()
        assert sampler.get_sampler_info().sampling_session_id == sampler.sampling_session_id
        named = service.create_sampling_client_async(base_model=BASE_MODEL).result()
        assert named.model_path is None
        named.aclose()
        with pytest.raises(ClosedError, match="closed"):
            named.sample(PROMPT)
        assert service.get_server_capabilities() == service.get_server_capabilities_async().result()


def test_an_account_is_asked_without_a_session(server: Served) -> None:
    with server.runtime() as runtime:
        service, client = start(runtime)
        path = client.save_state("kept").result().path
        with runtime.create_rest_client() as rest:
            assert rest.session_id is None
            assert client.model_id in [
                run.training_run_id for run in rest.list_training_runs(limit=100).training_runs
            ]
            assert rest.get_training_run_by_tinker_path(path).training_run_id == client.model_id
            assert service.session_id in rest.list_sessions_async(100).result().sessions
            with pytest.raises(InvalidInput, match="limit"):
                rest.list_sessions_async(-1)
        with pytest.raises(ClosedError):
            rest.whoami()
        mine = service.create_rest_client_async().result()
        assert isinstance(mine, blocking.RestClient)
        assert mine.session_id == service.session_id

        async def main() -> None:
            await mine.delete_checkpoint_from_tinker_path_async(path)
            assert (await mine.list_checkpoints_async(client.model_id)).checkpoints == ()

        asyncio.run(main())


def test_an_error_of_the_call_means_that_nothing_was_accepted(server: Served) -> None:
    with server.runtime() as runtime:
        service, client = start(runtime)
        odd: Any = None
        for call in (client.forward_backward, client.forward_backward_async):
            with pytest.raises(InvalidInput, match="data"):
                call(odd)
        with pytest.raises(InvalidInput, match="base_model"):
            service.create_lora_training_client(odd)
        assert client.accepted == ()
        missing = client.load_state("tinker://nowhere/weights/none")
        with pytest.raises(RequestFailedError):
            missing.result()
        assert isinstance(missing.exception(), RequestFailedError)


def test_the_runtime_tells_what_it_knows(server: Served) -> None:
    with server.runtime() as runtime:
        _, client = start(runtime)
        client.forward_backward(batch(1)).result()
        assert runtime.pending() == ()
        assert runtime.counters()["operations_done"] == 1
        runtime.metrics.add("mine", 2)
        assert runtime.metrics.snapshot().counters["mine"] == 2
        assert "mine" in runtime.metrics.prometheus()
        (used,) = runtime.usage().values()
        assert used.trained > 0
        assert "training-0" in str(runtime.tree())
        written = io.StringIO()
        runtime.dump(written)
        assert "Waiting (0)" in written.getvalue()
        with pytest.raises(InvalidInput):
            runtime.cost({})
        with pytest.raises(CredentialError):
            runtime.renew_api_key("no key")
        runtime.renew_api_key("tml-test")
        assert client.get_info().model_id == client.model_id


def test_events_are_recorded(server: Served) -> None:
    with server.runtime() as runtime:
        service, client = start(runtime)
        assert runtime.get_telemetry().status == "active"
        sampler = service.create_sampling_client(base_model=BASE_MODEL)
        for handle in (service, client, sampler):
            telemetry = handle.get_telemetry()
            assert telemetry is not None
            assert telemetry.session_id == service.session_id
            assert telemetry.log("dataset.loaded", {"rows": 5})
        assert telemetry.log_fatal_exception(ValueError("odd"))
        for fatal in (False, True):
            with pytest.raises(ZeroDivisionError), capture_exceptions(client, fatal=fatal):
                _ = 1 / 0
        assert telemetry.flush()
        assert telemetry.status().sent >= 7


def test_handles_are_comparable_and_show_no_secret(server: Served) -> None:
    with server.runtime() as runtime:
        service, client = start(runtime)
        other = service.create_lora_training_client(BASE_MODEL, rank=2)
        assert client == client.within(5) != other
        assert len({client, client.within(5), other}) == 2
        for thing in (runtime, service, client, client.optim_step(AdamParams())):
            assert server.key not in repr(thing)
        assert client.model_id in repr(client)


def test_a_session_ends_with_its_block(server: Served) -> None:
    with server.runtime() as runtime:
        with runtime.create_service_client() as service:
            assert service.state is SessionState.ACTIVE
        assert service.state is SessionState.FINISHED
        with pytest.raises(ZeroDivisionError), runtime.create_service_client():
            _ = 1 / 0
        runtime.create_service_client().close("errored", "the loss went up")
    ends = server.ends()[-3:]
    assert ["success" in str(ends[0]), "errored" in str(ends[1]), "errored" in str(ends[2])] == [True] * 3


def test_what_is_closed_says_so_and_still_tells_its_name(server: Served) -> None:
    with server.runtime() as runtime:
        service, client = start(runtime)
        sampler = service.create_sampling_client(base_model=BASE_MODEL)
        unfinished = client.optim_step(AdamParams())
        unfinished.result()
    calls = (
        runtime.create_service_client,
        service.get_server_capabilities,
        client.get_info,
        client.get_info_async,
        lambda: client.optim_step(AdamParams()),
        lambda: client.optim_step_async(AdamParams()),
        lambda: sampler.sample(PROMPT),
        lambda: sampler.sample_async(PROMPT),
    )
    for call in calls:
        with pytest.raises(ClosedError, match="the runtime was closed"):
            call()
    runtime.close()
    assert client.model_id.startswith(service.session_id)
    assert service.state is SessionState.FINISHED
    assert "closed" in repr(runtime) or "Runtime" in repr(runtime)


def test_an_observer_is_called_in_a_thread_of_its_own(server: Served) -> None:
    with server.runtime() as runtime:
        _, client = start(runtime)
        heard: list[tuple[QueueState, str]] = []
        told = threading.Event()

        def observer(change: Any) -> None:
            heard.append((change.state, threading.current_thread().name))
            told.set()

        with client.on_queue_state_change(observer) as subscription:
            assert subscription.active
            model = client._inner._model
            client._engine.ask("report", lambda: model.queue.report(QueueState.PAUSED_CAPACITY, "busy"))
            assert told.wait(30)
            assert client.queue_state is QueueState.PAUSED_CAPACITY
        assert not subscription.active
        ((state, thread),) = heard
        assert state is QueueState.PAUSED_CAPACITY
        assert thread not in ("tinker-actors", threading.current_thread().name)

        async def on_a_loop(change: Any) -> None: ...

        with pytest.raises(InvalidInput, match="async"):
            client.on_queue_state_change(on_a_loop)


def test_a_plain_program_recovers_a_run_and_is_called_with_its_own_handles(server: Served) -> None:
    told: list[tuple[object, object, object]] = []
    heard = threading.Event()

    def on_recovery(old: object, new: Any, checkpoint: object) -> None:
        told.append((old, new.get_info().model_id, checkpoint))
        heard.set()

    policy = RecoveryPolicy(on_recovery=on_recovery)
    with server.runtime() as runtime:
        service, client = start(runtime)
        path = client.save_state("kept").result().path
        recovered = runtime.recovery.recover(client.model_id, service, client=client, policy=policy)
        assert recovered.checkpoint == path
        assert isinstance(recovered.client, blocking.TrainingClient)
        assert heard.wait(60)
        assert told == [(client, recovered.client.model_id, path)]
        runtime.recovery.monitor_run_async(client.model_id, service).result()
        assert runtime.recovery.monitored() == (client.model_id,)
        assert runtime.recovery.stop_monitoring(client.model_id)
        assert runtime.recovery.recoveries() == ()
        with pytest.raises(InvalidInput, match="service"):
            runtime.recovery.recover("run", client)
