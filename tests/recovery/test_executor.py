"""Runs are recovered into new clients: from which checkpoint, in how many attempts, and who is told."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio

from supervision import SupervisorRef
from supervision.context import Context
from tests.clients.scenario import train
from tests.clients.test_epochs import steps
from tests.recovery.stand_ins import Runs, Service, checkpoint, heard, told
from tinker_actors.clients import ServiceClient, TrainingClient
from tinker_actors.config import RecoveryPolicy
from tinker_actors.errors import (
    APIConnectionError,
    AuthenticationError,
    BadRequestError,
    ClosedError,
    InvalidInput,
    RecoveryDisabled,
    RecoveryFailed,
    RecoveryPending,
)
from tinker_actors.recovery import RecoveredRun, RecoveryState
from tinker_actors.recovery.events import RecoveryExhausted, RecoveryFailure
from tinker_actors.testing.simulation import Outcome, World
from tinker_actors.types import AdamParams, TrainingRun

POLICY = RecoveryPolicy(max_attempts=3, backoff_first=10.0, backoff_longest=100.0)
ATTEMPT = ["RecoveryStarted", "CheckpointSelected"]
DONE = ["RecoveryClientCreated", "RecoveryCompleted"]


class Planted(Exception):
    """The crash of a test."""


def run(story: Callable[[World], Awaitable[Any]], policy: RecoveryPolicy | None = POLICY) -> Outcome[Any]:
    async def alone(world: World, service: ServiceClient, client: TrainingClient) -> Any:
        return await story(world)

    return train(alone, recovery=policy)


def crash(world: World, path: str) -> None:
    place: Any = world.runtime.system.root
    for name in path.split("/"):
        assert isinstance(place, SupervisorRef)
        place = place.child(name)
    life = place.place.life

    async def fail() -> None:
        raise Planted

    Context(life).start_task(fail, name="planted")


def refusing(times: int, error: Exception) -> Callable[[int], Awaitable[None]]:
    async def work(call: int) -> None:
        await trio.lowlevel.checkpoint()
        if call <= times:
            raise error

    return work


LOST = APIConnectionError("the line is cut")


@pytest.mark.parametrize("optimizer", [True, False])
def test_a_run_goes_on_from_its_newest_checkpoint_with_its_optimizer_or_without(optimizer: bool):
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> tuple[RecoveredRun, str]:
        await steps(client, 1)
        await (await client.save_state("older")).result()
        await steps(client, 2)
        newest = (await (await client.save_state("newest")).result()).path
        run_id = client.model_id
        await client.aclose()
        recovered = await world.runtime.recovery.recover(run_id, service)
        world.watch(recovered.client)
        await steps(recovered.client, 3)
        return recovered, newest

    async def undisturbed(world: World, service: ServiceClient, client: TrainingClient) -> None:
        await steps(client, 1, 2)
        if not optimizer:
            saved = await (await client.save_state("newest")).result()
            await (await client.load_state(saved.path)).result()
        await steps(client, 3)

    policy = RecoveryPolicy(restore_optimizer=optimizer)
    outcome = train(story, recovery=policy)
    recovered, newest = outcome.value
    assert (recovered.checkpoint, recovered.attempts) == (newest, 1)
    assert outcome.models[1].digest == train(undisturbed, recovery=policy).models[0].digest
    assert told(outcome) == [*ATTEMPT, "RecoveryClientCreated", "RecoveryCompleted"]
    assert {event.run_id for event in heard(outcome)} == {recovered.run_id}
    assert outcome.counters["recoveries_completed"] == 1


@pytest.mark.parametrize("given", [None, "tinker://run/weights/mine"])
@pytest.mark.parametrize("last", [True, False])
def test_the_newest_is_what_the_caller_knows_or_the_run_or_its_list(given: str | None, last: bool):
    async def story(world: World) -> list[tuple[float, str, bool]]:
        runs = Runs(checkpoint("b", number=2), checkpoint("c", number=3, kind="sampler"), checkpoint("a"), last=last)
        service = Service(runs)
        await world.runtime.recovery.recover("run", service, checkpoint=given)
        return service.calls

    ((_, path, optimizer),) = run(story).value
    assert (path, optimizer) == (given or "tinker://run/weights/b", True)


def test_a_path_of_the_policy_is_gone_on_from():
    async def story(world: World) -> RecoveredRun:
        policy = RecoveryPolicy(checkpoint="tinker://another/weights/one")
        return await world.runtime.recovery.recover("run", Service(Runs(checkpoint("a"))), policy=policy)

    assert run(story).value.checkpoint == "tinker://another/weights/one"


@pytest.mark.parametrize(("best", "name"), [("lowest", "b"), ("highest", "d")])
def test_the_best_is_judged_by_what_is_known_of_each(best: Any, name: str):
    async def story(world: World) -> str:
        recovery = world.runtime.recovery
        saved = [checkpoint(one, number=number) for number, one in enumerate("abcde")]
        values = {"a": 2.0, "b": 1.0, "d": 3.0, "e": float("nan")}
        for one in saved:
            if (value := values.get(one.tinker_path[-1])) is not None:
                recovery.note_metrics(one.tinker_path, {"eval": value})
        policy = RecoveryPolicy(checkpoint="best", best_metric="eval", best=best)
        return (await recovery.recover("run", Service(Runs(*saved)), policy=policy)).checkpoint

    assert run(story).value == f"tinker://run/weights/{name}"


def test_a_state_has_the_metrics_of_the_result_before_it():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> tuple[list[float], str]:
        losses: list[float] = []
        for number, seed in enumerate((1, 2, 3)):
            losses += await steps(client, seed)
            await (await client.save_state(f"state-{number}")).result()
        return losses, (
            await world.runtime.recovery.recover("gone", service, rest=await rest(world, client))
        ).checkpoint

    async def rest(world: World, client: TrainingClient) -> Any:
        asked = await world.runtime.create_rest_client()
        known = await asked.list_checkpoints(client.model_id)
        return Runs(*known.checkpoints)

    policy = RecoveryPolicy(checkpoint="best", best_metric="loss:sum", best="highest")
    losses, path = train(story, recovery=policy).value
    assert path.endswith(f"/state-{losses.index(max(losses))}")


def test_attempts_are_apart_and_the_last_is_told():
    reasons: list[tuple[str, str]] = []

    async def story(world: World) -> list[float]:
        service = Service(Runs(checkpoint("a")), refusing(9, LOST))
        with pytest.raises(RecoveryFailed, match=r"not recovered in 3 attempts.*the line is cut") as caught:
            await world.runtime.recovery.recover("run", service, {"job": "mine"})
        assert caught.value.__cause__ is LOST
        assert caught.value.attempts == 3
        assert (service.made, world.runtime.recovery.recoveries()) == ([], ())
        return [when for when, _, _ in service.calls]

    outcome = run(
        story, RecoveryPolicy(max_attempts=3, backoff_first=10.0, on_failure=lambda *told: reasons.append(told))
    )
    first, second, third = outcome.value
    assert 7.5 + 1 <= second - first <= 10 + 1.5
    assert 15 + 1 <= third - second <= 20 + 1.5
    assert told(outcome) == [*[*ATTEMPT, "RecoveryFailure"] * 3, "RecoveryExhausted"]
    assert [event.attempt for event in heard(outcome) if isinstance(event, RecoveryFailure)] == [1, 2, 3]
    assert {event.metadata["job"] for event in heard(outcome)} == {"mine"}
    assert reasons == [("run", "the line is cut")]
    assert (outcome.counters["recovery_attempts"], outcome.counters["recoveries_exhausted"]) == (3, 1)


def test_a_later_attempt_may_be_the_one():
    async def story(world: World) -> RecoveredRun:
        return await world.runtime.recovery.recover("run", Service(Runs(checkpoint("a")), refusing(1, LOST)))

    outcome = run(story)
    assert outcome.value.attempts == 2
    assert told(outcome).count("RecoveryFailure") == 1
    assert told(outcome)[-1] == "RecoveryCompleted"


@pytest.mark.parametrize(
    ("policy", "runs", "error", "words"),
    [
        (POLICY, Runs(), None, "no training checkpoint"),
        (POLICY, Runs(checkpoint("a")), BadRequestError(400, "of another shape"), "of another shape"),
        (RecoveryPolicy(checkpoint="best", best_metric="eval"), Runs(checkpoint("a")), None, "'eval' is known"),
    ],
    ids=["no checkpoint", "refused", "no metric"],
)
def test_what_would_come_to_the_same_is_not_tried_again(policy: Any, runs: Runs, error: Any, words: str):
    async def story(world: World) -> int:
        service = Service(runs, None if error is None else refusing(9, error))
        with pytest.raises(RecoveryFailed, match=words):
            await world.runtime.recovery.recover("run", service, policy=policy)
        return len(service.calls)

    outcome = run(story)
    assert outcome.value <= 1
    assert [event.permanent for event in heard(outcome) if isinstance(event, RecoveryFailure)] == [True]
    assert [event.attempts for event in heard(outcome) if isinstance(event, RecoveryExhausted)] == [1]


def test_a_refused_credential_is_waited_out_and_counts_as_no_attempt():
    async def story(world: World) -> tuple[int, int]:
        refused = AuthenticationError(401, "the key is no more")
        service = Service(Runs(checkpoint("a")), refusing(9, refused))
        recovered = await world.runtime.recovery.recover("run", service, policy=RecoveryPolicy(max_attempts=1))
        return recovered.attempts, len(service.calls)

    outcome = run(story)
    assert outcome.value == (1, 10)
    assert {event.attempt for event in heard(outcome) if isinstance(event, RecoveryFailure)} == {1}
    assert "RecoveryExhausted" not in told(outcome)


def test_one_run_is_recovered_once_at_a_time_and_never_without_a_policy():
    async def story(world: World) -> None:
        recovery, service = world.runtime.recovery, Service(Runs(checkpoint("a")))
        first = recovery.recover_async("run", service, policy=POLICY)
        await trio.sleep(0.5)
        with pytest.raises(RecoveryPending, match="run is being recovered already") as caught:
            await recovery.recover("run", service, policy=POLICY)
        assert caught.value.run_id == "run"
        with pytest.raises(RecoveryDisabled, match="recovery=False"):
            await recovery.recover("other", service)
        assert (await first).run_id == "run"
        await recovery.recover("run", service, policy=POLICY)
        assert len(service.calls) == 2

    run(story, None)


@pytest.mark.parametrize("limit", [1, 2])
def test_so_many_at_a_time_first_come_first_served(limit: int):
    async def story(world: World) -> Service:
        recovery, service = world.runtime.recovery, Service(Runs(checkpoint("a")))
        futures = []
        for number in range(5):
            futures.append(
                recovery.recover_async(f"run-{number}", service, checkpoint=f"tinker://r/weights/{number}")
            )
            await trio.sleep(0.01)
        states = [info.state for info in recovery.recoveries()]
        assert states == [RecoveryState.IN_PROGRESS] * limit + [RecoveryState.QUEUED] * (5 - limit)
        assert [row.kind for row in world.runtime.pending()].count("recovery") == 5
        for future in futures:
            await future
        return service

    service = run(story, RecoveryPolicy(max_concurrent=limit)).value
    assert service.busiest == limit
    assert [path[-1] for _, path, _ in service.calls] == list("01234")


def test_who_waits_for_a_retry_holds_no_place():
    async def story(world: World) -> tuple[float, float]:
        recovery = world.runtime.recovery
        failing, sound = Service(Runs(checkpoint("a")), refusing(1, LOST)), Service(Runs(checkpoint("b")))
        first = recovery.recover_async("first", failing)
        await trio.sleep(0.01)
        await recovery.recover("second", sound)
        between = trio.current_time()
        assert [(info.run_id, info.state) for info in recovery.recoveries()] == [
            ("first", RecoveryState.PENDING_RETRY)
        ]
        await first
        return between, trio.current_time()

    between, end = run(story).value
    assert end - between > 5


def test_a_killed_attempt_frees_its_place_and_is_made_again():
    async def story(world: World) -> RecoveredRun:
        service = Service(Runs(checkpoint("a")))
        future = world.runtime.recovery.recover_async("run", service)
        await trio.sleep(0.5)
        crash(world, "recovery/attempts/run-1")
        other = await world.runtime.recovery.recover("other", Service(Runs(checkpoint("b"))))
        assert trio.current_time() < 5
        assert other.attempts == 1
        return await future

    outcome = run(story)
    assert outcome.value.attempts == 2
    assert told(outcome, "run") == [*ATTEMPT, "RecoveryFailure", *ATTEMPT, *DONE]


def test_the_place_is_free_when_the_supervisor_of_attempts_is_restarted():
    async def story(world: World) -> RecoveredRun:
        future = world.runtime.recovery.recover_async("run", Service(Runs(checkpoint("a"))))
        await trio.sleep(0.5)
        recovery = world.runtime.system.child("recovery")
        assert isinstance(recovery, SupervisorRef)
        await recovery.restart_child("attempts")
        return await future

    assert run(story).value.attempts == 2


@pytest.mark.parametrize("after", [0.0, 0.05, 0.5, 1.15, 3.0, 9.0])
def test_a_crash_of_the_executor_loses_no_order_and_counts_no_attempt_twice(after: float):
    async def story(world: World) -> tuple[list[int], list[str]]:
        recovery = world.runtime.recovery
        services = [Service(Runs(checkpoint("a")), refusing(1, LOST)), Service(Runs(checkpoint("b")))]
        futures = [recovery.recover_async(f"run-{number}", service) for number, service in enumerate(services)]
        await trio.sleep(after)
        crash(world, "recovery/executor")
        attempts = [(await future).attempts for future in futures]
        return attempts, [path for service in services for _, path, _ in service.calls]

    outcome = run(story)
    assert outcome.value == ([2, 1], ["tinker://run/weights/a"] * 2 + ["tinker://run/weights/b"])
    assert outcome.counters["recovery_attempts"] == 3
    assert told(outcome, "run-0") == [*ATTEMPT, "RecoveryFailure", *ATTEMPT, *DONE]


@pytest.mark.parametrize("after", [0.001, 0.05, 0.15, 0.7, 1.2, 2.0])
def test_a_recovery_that_nobody_waits_for_leaves_nothing(after: float):
    async def story(world: World) -> tuple[list[bool], int]:
        service, other = Service(Runs(checkpoint("a"))), Service(Runs(checkpoint("b")))
        with trio.move_on_after(after):
            await world.runtime.recovery.recover("run", service)
        await world.runtime.recovery.recover("other", other)
        assert world.runtime.recovery.recoveries() == ()
        return [made.closed for made in service.made], len(other.made)

    closed, other = run(story).value
    assert other == 1
    assert closed == ([False] if after > 1.1 else [])


def test_a_client_that_comes_too_late_is_closed():
    async def stubborn(call: int) -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep(2)

    async def story(world: World) -> list[bool]:
        service = Service(Runs(checkpoint("a")), stubborn)
        with trio.move_on_after(1.5):
            await world.runtime.recovery.recover("run", service)
        await trio.sleep(5)
        assert world.runtime.recovery.recoveries() == ()
        return [made.closed for made in service.made]

    outcome = run(story)
    assert outcome.value == [True]
    assert "RecoveryCompleted" not in told(outcome)


@pytest.mark.parametrize("after", [0.01, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
def test_a_killed_attempt_leaves_no_half_made_client(after: float):
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> list[str]:
        await steps(client, 1)
        await (await client.save_state("kept")).result()
        run_id = client.model_id
        future = world.runtime.recovery.recover_async(run_id, service)
        await trio.sleep(after)
        name = f"{run_id}-1".replace("/", "-")
        if world.runtime.tree().find(f"runtime/recovery/attempts/{name}") is not None:
            crash(world, f"recovery/attempts/{name}")
        recovered = await future
        await trio.sleep(60)
        assert recovered.client.model_id != run_id
        return [model.model_id for model in world.service.models.values() if model.closed is None]

    assert len(train(story, recovery=POLICY).value) == 2


@pytest.mark.parametrize("kind", ["plain", "async", "lambda"])
def test_who_wants_to_know_is_told_of_old_and_new(kind: str):
    calls: list[tuple[object, object, object]] = []

    def plain(old: object, new: object, path: object) -> None:
        calls.append((old, new, path))

    async def awaited(old: object, new: object, path: object) -> None:
        await trio.sleep(1)
        calls.append((old, new, path))

    async def story(world: World) -> object:
        old = object()
        ways: dict[str, Any] = {
            "plain": plain,
            "async": awaited,
            "lambda": lambda *given: awaited(*given),  # noqa: PLW0108  # it is not known for async
        }
        policy = RecoveryPolicy(on_recovery=ways[kind])
        recovered = await world.runtime.recovery.recover(
            "run", Service(Runs(checkpoint("a"))), client=old, policy=policy
        )
        await trio.sleep(2)
        return old, recovered.client, recovered.checkpoint

    value = run(story).value
    assert calls == [value]


@pytest.mark.parametrize("kind", ["plain", "async"])
def test_a_callback_that_fails_or_hangs_disturbs_nobody(kind: str):
    def plain(*_: object) -> None:
        raise Planted("of a callback")

    async def awaited(*_: object) -> None:
        await trio.sleep(1)
        raise Planted("of a callback")

    async def hangs(*_: object) -> None:
        await trio.sleep_forever()

    async def story(world: World) -> None:
        recovery = world.runtime.recovery
        policy = RecoveryPolicy(on_recovery=plain if kind == "plain" else awaited, on_failure=hangs, max_attempts=1)
        await recovery.recover("run", Service(Runs(checkpoint("a"))), policy=policy)
        with pytest.raises(RecoveryFailed):
            await recovery.recover("bad", Service(Runs(checkpoint("a")), refusing(1, LOST)), policy=policy)
        await recovery.recover("next", Service(Runs(checkpoint("a"))), policy=RecoveryPolicy())
        await trio.sleep(5)

    outcome = run(story)
    (failed,) = [event for event in heard(outcome) if type(event).__name__ == "RecoveryCallbackFailed"]
    assert "Planted: of a callback" in str(failed)
    assert (outcome.counters.get("actor_restarts", 0), told(outcome).count("RecoveryCompleted")) == (0, 2)


@pytest.mark.parametrize("end", ["too many crashes", "the runtime's"])
def test_who_waits_hears_of_the_end(end: str):
    told: list[str] = []

    async def hang(call: int) -> None:
        await trio.sleep_forever()

    async def wait(recovery: Any, service: Service) -> None:
        with pytest.raises(ClosedError) as caught:
            await recovery.recover("run", service, checkpoint="tinker://run/weights/a")
        told.append(str(caught.value))

    async def story(world: World) -> None:
        recovery, service = world.runtime.recovery, Service(Runs(), hang)
        late.start_soon(wait, recovery, service)
        await trio.sleep(1)
        if end == "too many crashes":
            for _ in range(12):
                if world.runtime.tree().find("runtime/recovery/executor").state == "running":
                    crash(world, "recovery/executor")
                await trio.sleep(5)
            with pytest.raises(ClosedError, match="crashed too often"):
                await recovery.recover("other", service)
            assert world.runtime.tree().find("runtime/recovery/monitor").state == "running"
            assert (world.runtime.pending(), service.busy) == ((), 0)

    async def outside(world: World, service: ServiceClient, client: TrainingClient) -> None:
        nonlocal late
        async with trio.open_nursery() as late:
            await story(world)
            if end == "the runtime's":
                await world.runtime.system.stop_child("recovery")
        await (await client.optim_step(AdamParams())).result()

    late: Any = None
    train(outside, recovery=POLICY)
    (text,) = told
    assert ("crashed too often" if end == "too many crashes" else "the runtime is closed") in text


def test_another_choice_can_stand_in_for_the_policys():
    class Chooser:
        async def choose(self, run_id: str, given: str | None, rest: Any, /) -> str:
            newest: TrainingRun = await rest.get_training_run(run_id)
            assert newest.last_checkpoint is not None
            return newest.last_checkpoint.tinker_path.replace("/a", "/chosen")

    async def story(world: World) -> str:
        service = Service(Runs(checkpoint("a")))
        return (await world.runtime.recovery.recover("run", service, chooser=Chooser())).checkpoint

    assert run(story).value == "tinker://run/weights/chosen"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"run_id": ""}, "run_id"),
        ({"service": object()}, "service"),
        ({"metadata": {"a": 1}}, "metadata"),
        ({"policy": {"replay": False}}, "policy"),
        ({"rest": object()}, "rest"),
        ({"checkpoint": "newest"}, "checkpoint"),
        ({"chooser": object()}, "chooser"),
    ],
)
def test_a_value_that_makes_no_sense_is_an_error_before_anything_begins(change: dict[str, Any], words: str):
    async def story(world: World) -> None:
        recovery = world.runtime.recovery
        given: dict[str, Any] = {"run_id": "run", "service": Service(Runs(checkpoint("a"))), **change}
        with pytest.raises(InvalidInput, match=words):
            await recovery.recover(**given)
        with pytest.raises(InvalidInput, match=words):
            recovery.recover_async(**given)
        if not {"checkpoint", "chooser"} & change.keys():
            with pytest.raises(InvalidInput, match=words):
                await recovery.monitor_run(**given)
        assert (recovery.recoveries(), recovery.monitored()) == ((), ())

    run(story)


def test_metrics_that_make_no_sense_are_an_error():
    async def story(world: World) -> None:
        await trio.lowlevel.checkpoint()
        note: Any = world.runtime.recovery.note_metrics
        for path, metrics in (("here", {}), ("tinker://r/weights/a", [1]), ("tinker://r/weights/a", {"x": "1"})):
            with pytest.raises(InvalidInput):
                note(path, metrics)

    run(story)
