"""Automatic checkpoints: when they are saved, what they show, which stay, and that nobody suffers from them."""

from __future__ import annotations

import math
from typing import Any

import pytest
import trio

from tests.clients.scenario import batch
from tests.clients.test_epochs import lose_model, rebuilt
from tests.runtime.test_crash_table import crash
from tinker_actors.clients import ServiceClient, TrainingClient
from tinker_actors.config import CheckpointPolicy, Config, RecoveryPolicy
from tinker_actors.errors import InvalidInput, ModelLost, OutageError, RequestFailedError
from tinker_actors.ledger import OperationKind
from tinker_actors.local import ServerSettings
from tinker_actors.server_class import ServerClass
from tinker_actors.sessions import CheckpointFailed, CheckpointPruned, CheckpointSaved
from tinker_actors.testing.faults import Delay, DropAfter, DropBefore, Fault, FaultPlan, Status
from tinker_actors.testing.operations import ADAPTER_SEED, BASE_MODEL, RANK
from tinker_actors.testing.simulation import Outcome, World, simulate
from tinker_actors.types import AdamParams

STEP = AdamParams(learning_rate=1e-2)


def run(
    story: Any, policy: Any, *faults: Fault, server: ServerSettings | None = None, **options: Any
) -> Outcome[Any]:
    """``story`` with a client that saves by ``policy``."""

    async def scenario(world: World) -> Any:
        service = await world.runtime.create_service_client()
        client = await service.create_lora_training_client(
            BASE_MODEL, rank=RANK, seed=ADAPTER_SEED, checkpoints=policy
        )
        return await story(world, service, world.watch(client))

    config = Config.load(base_url="https://server", api_key="tml-test", environ={}, **options)
    return simulate(scenario, seed=1, plan=FaultPlan(faults), config=config, settings=server)


async def steps(client: TrainingClient, count: int, first: int = 0) -> None:
    """``count`` steps, none of them awaited before the last was accepted."""
    updates = []
    for number in range(first, first + count):
        await client.forward_backward(batch(number, number + 1))
        updates.append(await client.optim_step(STEP))
    for update in updates:
        await update


def names(outcome: Outcome[Any]) -> list[str]:
    return [event.checkpoint.rpartition("-")[2] for event in saves(outcome)]


def saves(outcome: Outcome[Any]) -> list[CheckpointSaved]:
    return [event for event in outcome.events if isinstance(event, CheckpointSaved)]


async def six_steps(world: World, service: ServiceClient, client: TrainingClient) -> list[Any]:
    await steps(client, 6)
    await world.settle()
    return [(saved.step, saved.op_no) for saved in client.checkpoints.saved]


def test_every_second_step_is_saved_in_the_step_of_its_optim_step():
    outcome = run(six_steps, CheckpointPolicy(every_steps=2, keep_last=None))
    assert outcome.value == [(2, 5), (4, 10), (6, 15)]
    kinds = [operation.kind for operation in outcome.models[0].accepted]
    step = [OperationKind.FORWARD_BACKWARD, OperationKind.OPTIM_STEP]
    assert kinds == ([*step, *step, OperationKind.SAVE_STATE] * 3)
    assert [event.step for event in saves(outcome)] == [2, 4, 6]
    assert saves(outcome)[0].path == "runtime/sessions/session-0/clients/training-0"
    assert outcome.counters["checkpoints_saved"] == 3
    assert outcome.models[0].digest == run(six_steps, False).models[0].digest


def test_bytes_and_seconds_make_a_save_due():
    async def slow(world: World, service: ServiceClient, client: TrainingClient) -> None:
        for number in range(4):
            await steps(client, 1, number)
            await trio.sleep(40.0)

    size = 200
    outcome = run(six_steps, CheckpointPolicy(every_bytes=size, keep_last=None))
    trained = [0]

    async def sizes(world: World, service: ServiceClient, client: TrainingClient) -> list[int]:
        await steps(client, 6)
        history = client._model.ledger.history
        assert history is not None
        return [one.size for one in history.since(0) if one.kind is OperationKind.FORWARD_BACKWARD]

    due = []
    for number, piece in enumerate(run(sizes, False).value, 1):
        trained[0] += piece
        if trained[0] >= size:
            due.append(number)
            trained[0] = 0
    assert due
    assert [event.step for event in saves(outcome)] == due
    assert [event.step for event in saves(run(slow, CheckpointPolicy(every_seconds=75.0)))] == [3]


def test_a_save_is_due_when_half_of_the_replay_budget_is_used():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> int:
        await steps(client, 8)
        await lose_model(world, client)
        await steps(client, 1, 8)
        return client._model.ledger.replay_bytes

    outcome = run(story, None, recovery=RecoveryPolicy(replay_bytes=3000))
    assert saves(outcome)
    assert len(rebuilt(outcome)) == 1

    async def calm(world: World, service: ServiceClient, client: TrainingClient) -> None:
        await steps(client, 9)

    assert outcome.models[0].digest == run(calm, False).models[0].digest
    assert not saves(run(six_steps, None))


def test_own_saves_count_for_the_budget():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> None:
        for number in range(8):
            await steps(client, 1, number)
            await (await client.save_state(f"own-{number}"))

    assert not saves(run(story, None, recovery=RecoveryPolicy(replay_bytes=3000)))


def test_a_save_needs_no_room_and_waits_for_nobody():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> list[Any]:
        first = client.forward_backward_async(batch(1))
        second = client.optim_step_async(STEP)
        accepted = len(client.accepted)
        with pytest.raises(InvalidInput, match="wait already"):
            client.forward_backward_async(batch(2))
        await first
        await second
        await world.settle()
        client.forward_backward_async(batch(3))
        client.forward_async(batch(4))
        with pytest.raises(InvalidInput, match="wait already"):
            client.forward_async(batch(5))
        return [accepted, len(client.checkpoints.saved)]

    assert run(story, CheckpointPolicy(every_steps=1), max_pending=2).value == [3, 1]


def test_the_last_ones_stay_and_pinned_ones():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> list[Any]:
        await steps(client, 1)
        await world.settle()
        (first,) = client.checkpoints.saved
        client.checkpoints.pin(first.path)
        await steps(client, 4, 1)
        await world.settle()
        await trio.sleep(1.0)
        rest = await world.runtime.create_rest_client()
        there = [one.tinker_path for one in (await rest.list_checkpoints(client.model_id)).checkpoints]
        assert sorted(there) == sorted(saved.path for saved in client.checkpoints.saved)
        left = [saved.step for saved in client.checkpoints.saved]
        client.checkpoints.unpin(first.path)
        await world.settle()
        await trio.sleep(1.0)
        return [left, [saved.step for saved in client.checkpoints.saved]]

    outcome = run(story, CheckpointPolicy(every_steps=1, keep_last=2))
    assert outcome.value == [[1, 4, 5], [4, 5]]
    assert len([event for event in outcome.events if isinstance(event, CheckpointPruned)]) == 3
    assert outcome.counters["checkpoints_pruned"] == 3


@pytest.mark.parametrize(("best", "kept"), [("lowest", [2, 6]), ("highest", [4, 6])])
def test_the_best_by_a_metric_stay(best: Any, kept: list[int]):
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> list[int]:
        for number, value in enumerate([5.0, 1.0, 4.0, 9.0, 3.0, 2.0], 1):
            await steps(client, 1, number)
            client.checkpoints.report({"eval": value, "other": 0.0})
            await world.settle()
        await trio.sleep(1.0)
        return [saved.step for saved in client.checkpoints.saved]

    policy = CheckpointPolicy(every_steps=1, keep_last=1, keep_best=1, best_metric="eval", best_is=best)
    assert run(story, policy).value == kept


def test_what_is_not_reported_comes_from_the_forward_backward():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> list[float | None]:
        await steps(client, 2)
        client.checkpoints.report({"loss:sum": 7.0}, step=2)
        await world.settle()
        return [saved.metric for saved in client.checkpoints.saved]

    policy = CheckpointPolicy(every_steps=1, keep_best=2, best_metric="loss:sum")
    first, second = run(story, policy).value
    assert first is not None
    assert first > 0.0
    assert second == 7.0


def test_a_metric_that_is_no_number_judges_nothing():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> list[int]:
        checkpoints = client.checkpoints
        for number, value in enumerate([5.0, math.nan, 1.0, -math.inf, 3.0], 1):
            await steps(client, 1, number)
            if math.isfinite(value):
                checkpoints.report({"eval": value})
            else:
                with pytest.raises(InvalidInput, match=r"no finite number\. Leave it out"):
                    checkpoints.report({"eval": value})
                checkpoints.judge({"eval": value}, checkpoints.step)  # as a job's rows do, which may hold it
            await world.settle()
        await trio.sleep(1.0)
        return [saved.step for saved in checkpoints.saved]

    policy = CheckpointPolicy(every_steps=1, keep_last=1, keep_best=1, best_metric="eval")
    assert run(story, policy).value == [3, 5]


def test_what_somebody_comes_back_to_stays():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> list[int]:
        await steps(client, 1)
        await world.settle()
        client.checkpoints.kept.hold(client.checkpoints.saved[0].path)
        await steps(client, 3, 1)
        await world.settle()
        await trio.sleep(1.0)
        return [saved.step for saved in client.checkpoints.saved]

    assert run(story, CheckpointPolicy(every_steps=1, keep_last=1)).value == [1, 4]


def test_the_expiry_is_put_off_while_the_client_lives():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> list[Any]:
        await steps(client, 1)
        await trio.sleep(4000.0)
        path = client.checkpoints.saved[0].path
        rest = await world.runtime.create_rest_client()
        there = [one.tinker_path for one in (await rest.list_checkpoints(client.model_id)).checkpoints]
        run_id = client.model_id
        await client.aclose()
        await trio.sleep(1100.0)
        after = [one.tinker_path for one in (await rest.list_checkpoints(run_id)).checkpoints]
        return [there == [path], after]

    assert run(story, CheckpointPolicy(every_steps=1, ttl_seconds=1000)).value == [True, []]


@pytest.mark.parametrize("status", [400, 403, 409, 500])
def test_a_save_that_is_refused_fails_nobody_and_is_tried_at_the_next_step(status: int):
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> list[int]:
        await steps(client, 4)
        await world.settle()
        await steps(client, 2, 4)
        await world.settle()
        return [saved.step for saved in client.checkpoints.saved]

    fault = Status(path="/save_weights", nth=1, status=status, times=4 if status == 500 else 1)
    outcome = run(story, CheckpointPolicy(every_steps=4), fault)
    failed = [event for event in outcome.events if isinstance(event, CheckpointFailed)]
    assert len(failed) == 1
    assert outcome.counters["checkpoints_failed"] == 1
    assert outcome.value == [5]
    assert outcome.models[0].digest == run(six_steps, False).models[0].digest


def test_a_save_that_had_arrived_and_was_given_up_holds_nobody_up():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> float:
        await steps(client, 4)
        return trio.current_time()

    fault = Status(path="/save_weights", nth=1, status=500, times=4, after=True)
    outcome = run(story, CheckpointPolicy(every_steps=3), fault)
    assert outcome.value < 60.0
    assert not rebuilt(outcome)
    assert outcome.models[0].digest == run(story, False).models[0].digest


@pytest.mark.parametrize("server_class", ServerClass)
@pytest.mark.parametrize(
    "fault",
    [
        *(Status(path="/save_weights", nth=1, status=status, times=4) for status in (403, 500)),
        Status(path="/save_weights", nth=1, status=500, times=4, after=True),
        DropAfter(path="/save_weights", nth=1),
        DropBefore(path="/save_weights", nth=1),
    ],
)
def test_whatever_a_server_does_with_repeats_a_save_that_fails_fails_nobody(server_class: ServerClass, fault: Fault):
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> int:
        for number in range(6):
            await steps(client, 1, number)
        await world.settle()
        return len(client.checkpoints.saved)

    server = ServerSettings(base_model=BASE_MODEL, server_class=server_class)
    outcome = run(story, CheckpointPolicy(every_steps=2, keep_last=None), fault, server=server)
    assert outcome.value >= (0 if server_class is ServerClass.NONE else 1)
    assert not rebuilt(outcome)
    assert outcome.models[0].digest == run(story, False, server=server).models[0].digest


@pytest.mark.parametrize("status", [404, 410])
def test_a_save_whose_result_is_lost_is_no_lost_model(status: int):
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> None:
        await steps(client, 1)
        await world.settle()

    fault = Status(path="/retrieve_future", nth=4, status=status)  # behind the model, the pass and the step
    outcome = run(story, CheckpointPolicy(every_steps=1), fault)
    assert len([event for event in outcome.events if isinstance(event, CheckpointFailed)]) == 1
    assert not rebuilt(outcome)
    assert outcome.models[0].digest == run(story, False).models[0].digest


@pytest.mark.parametrize("status", [404, 410])
def test_a_save_that_is_the_last_is_made_again_where_its_model_is_lost_with_its_result(status: int):
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> list[int]:
        await steps(client, 1)
        await lose_model(world, client)
        await client.checkpoints.drained()
        await world.settle()
        return [saved.step for saved in client.checkpoints.saved]

    fault = Status(path="/retrieve_future", nth=4, status=status)  # as after a restart of the server
    outcome = run(story, CheckpointPolicy(every_steps=1), fault)
    assert outcome.value == [1]
    assert len(rebuilt(outcome)) == 1
    assert not [event for event in outcome.events if isinstance(event, CheckpointFailed)]
    assert outcome.models[0].digest == run(story, False).models[0].digest


def test_a_refused_credential_halts_a_save_as_all_else():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> int:
        with trio.move_on_after(100.0):
            await steps(client, 2)
        world.runtime.renew_api_key("tml-test")
        await world.settle()
        return len(client.checkpoints.saved)

    fault = Status(path="/save_weights", nth=1, status=401, times=2)
    assert run(story, CheckpointPolicy(every_steps=1), fault).value == 2


def test_a_save_that_an_outage_has_held_up_is_one_of_those_kept_once_it_was_gone_on():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> list[str]:
        client.forward_backward_async(batch(1, 2))
        update = client.optim_step_async(STEP)
        await trio.sleep(0.0)
        world.network.partition()
        assert isinstance(await update.exception(), OutageError)
        world.network.heal()
        for future in await client.restore():
            await future
        await world.settle()
        assert [saved.step for saved in client.checkpoints.saved] == [1]
        await steps(client, 1, 1)
        await world.settle()
        rest = await service.create_rest_client()
        found = await rest.list_checkpoints(client.model_id)
        assert [one.tinker_path for one in found.checkpoints] == [saved.path for saved in client.checkpoints.saved]
        return [one.tinker_path for one in found.checkpoints]

    outcome = run(story, CheckpointPolicy(every_steps=1, keep_last=1), outage_bound=60.0)
    assert len(outcome.value) == 1
    assert [event.step for event in saves(outcome)] == [1, 2]
    assert not [event for event in outcome.events if isinstance(event, CheckpointFailed)]


async def listed(world: World, *runs: str) -> list[str]:
    rest = await world.runtime.create_rest_client()
    found = [one.tinker_path for run in runs for one in (await rest.list_checkpoints(run)).checkpoints]
    return sorted(found)


def known(client: TrainingClient) -> list[str]:
    return sorted(saved.path for saved in client.checkpoints.saved)


@pytest.mark.parametrize(
    ("server_class", "fault"),
    [
        (ServerClass.NONE, DropAfter(path="/save_weights", nth=1)),
        (ServerClass.NONE, Status(path="/save_weights", nth=1, status=500, after=True)),
        (ServerClass.DEDUP, Status(path="/save_weights", nth=1, status=500, times=4, after=True)),
        (ServerClass.DEDUP, Status(path="/retrieve_future", nth=4, status=410)),
        (ServerClass.DEDUP, Status(path="/retrieve_future", nth=4, status=503, times=12)),
        (ServerClass.ORDERED, Status(path="/save_weights", nth=1, status=500, times=4, after=True)),
    ],
    ids=["a lost reply", "500", "500, dedup", "a lost result", "an outage of its result", "500, ordered"],
)
def test_a_save_that_was_given_up_and_has_arrived_is_deleted_when_a_later_one_is_there(
    server_class: ServerClass, fault: Fault
):
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> list[str]:
        await steps(client, 1)
        await client.checkpoints.drained()
        await trio.sleep(100.0)
        (stray,) = await listed(world, client.model_id)
        assert known(client) == []
        await steps(client, 1, 1)
        await world.settle()
        await trio.sleep(1.0)
        assert client.checkpoints.kept.strays() == ()
        assert stray not in known(client)
        assert await listed(world, client.model_id) == known(client)
        return [saved.path.rpartition("-")[2] for saved in client.checkpoints.saved]

    server = ServerSettings(base_model=BASE_MODEL, server_class=server_class)
    policy = CheckpointPolicy(every_steps=1, keep_last=2)
    outcome = run(story, policy, fault, server=server, server_class=server_class, outage_bound=60.0)
    assert len(outcome.value) == 1
    assert len([event for event in outcome.events if isinstance(event, CheckpointPruned)]) == 1
    assert outcome.models[0].digest == run(two_steps, False).models[0].digest


async def two_steps(world: World, service: ServiceClient, client: TrainingClient) -> None:
    await steps(client, 2)


def test_one_that_has_not_arrived_is_looked_for_a_few_times_and_where_all_stay_never():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> list[int]:
        left = []
        for number in range(6):
            await steps(client, 1, number)
            await world.settle()
            await trio.sleep(1.0)
            left.append(len(client.checkpoints.kept.strays()))
        return left

    server = ServerSettings(base_model=BASE_MODEL, server_class=ServerClass.NONE)

    def strays(keep: int | None, fault: Fault) -> list[int]:
        policy = CheckpointPolicy(every_steps=1, keep_last=keep)
        return run(story, policy, fault, server=server, server_class=ServerClass.NONE).value

    assert strays(1, DropBefore(path="/save_weights", nth=1)) == [1, 1, 1, 0, 0, 0]
    assert strays(None, DropAfter(path="/save_weights", nth=1)) == [1] * 6


def test_a_name_that_the_user_has_taken_is_never_deleted():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> bool:
        await steps(client, 1)
        await client.checkpoints.drained()
        (path,) = client.checkpoints.kept.strays()
        mine = (await (await client.save_state(path.rpartition("/")[2]))).path
        assert mine == path
        await steps(client, 4, 1)
        await world.settle()
        await trio.sleep(1.0)
        assert client.checkpoints.kept.strays() == ()
        return mine in await listed(world, client.model_id)

    server = ServerSettings(base_model=BASE_MODEL, server_class=ServerClass.NONE)
    policy = CheckpointPolicy(every_steps=1, keep_last=1)
    fault = DropBefore(path="/save_weights", nth=1)
    assert run(story, policy, fault, server=server, server_class=ServerClass.NONE).value


def test_a_save_that_a_lost_model_had_done_is_deleted_with_those_before_the_last():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> list[str]:
        first = client.model_id
        await steps(client, 1)
        await lose_model(world, client)
        await client.checkpoints.drained()
        await world.settle()
        runs = first, client.model_id
        assert len(await listed(world, *runs)) == 2
        assert len(known(client)) == 1
        await steps(client, 1, 1)
        await world.settle()
        await trio.sleep(1.0)
        assert await listed(world, *runs) == known(client)
        return known(client)

    fault = Status(path="/retrieve_future", nth=4, status=404)
    outcome = run(story, CheckpointPolicy(every_steps=1, keep_last=2), fault)
    assert len(outcome.value) == 2
    assert len(rebuilt(outcome)) == 1


def test_the_last_save_of_a_client_that_has_stopped_counts_if_it_has_arrived():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> list[int]:
        await steps(client, 2)
        with pytest.raises(ModelLost):
            await (await client.forward_backward(batch(9)))
        assert [saved.step for saved in client.checkpoints.saved] == [1]
        await trio.sleep(100.0)
        assert await listed(world, client.model_id) == known(client)
        return [saved.step for saved in client.checkpoints.saved]

    slow = Delay(path="/retrieve_future", nth=7, seconds=50.0)  # of the second save
    lost = Status(path="/forward_backward", nth=3, status=404)
    outcome = run(story, CheckpointPolicy(every_steps=1, keep_last=1), slow, lost, recovery=False)
    assert outcome.value == [2]


def test_saving_twice_under_one_name_is_the_same_save(caplog: pytest.LogCaptureFixture):
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> list[str]:
        await steps(client, 1)
        first = (await (await client.save_state("mine"))).path
        again = (await (await client.save_state("mine"))).path
        await steps(client, 1, 1)
        with pytest.raises(RequestFailedError, match="exists"):
            await (await client.save_state("mine"))
        return [first, again]

    first, again = run(story, False).value
    assert first == again


def test_saving_twice_under_one_name_is_the_same_save_where_servers_refuse_it_with_409():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> list[str]:
        await steps(client, 1)
        first = (await (await client.save_state("mine"))).path
        again = (await (await client.save_state("mine"))).path
        await steps(client, 1, 1)
        return [first, again]

    outcome = run(story, False, Status(path="/save_weights", nth=2, status=409))
    first, again = outcome.value
    assert first == again
    assert outcome.models[0].digest == run(story, False).models[0].digest


def test_what_is_pinned_while_another_is_deleted_stays():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> list[str]:
        first, second, _ = [(await client.checkpoints.save(name)).path for name in ("a", "b", "c")]
        client.checkpoints.unpin(first)
        client.checkpoints.unpin(second)
        await trio.sleep(1.0)
        client.checkpoints.pin(second)
        await world.settle()
        assert client.checkpoints.saved[0].path == second
        found = await (await service.create_rest_client()).list_checkpoints(client.model_id)
        return sorted(one.checkpoint_id for one in found.checkpoints)

    outcome = run(story, CheckpointPolicy(keep_last=1), Delay(path="/a", seconds=5.0))
    assert outcome.value == ["weights/b", "weights/c"]
    assert len(outcome.fired) == 1


def test_a_model_that_is_being_rebuilt_keeps_its_checkpoints_and_nobody_elses():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> list[str]:
        other = await service.create_lora_training_client(
            BASE_MODEL, rank=RANK, seed=ADAPTER_SEED, checkpoints=CheckpointPolicy(every_steps=1, keep_last=1)
        )
        path, _ = [(await client.checkpoints.save(name)).path for name in ("a", "b")]
        await lose_model(world, client)
        client.optim_step_async(STEP)
        while not any(row.kind == "rebuild" for row in world.runtime.pending()):  # noqa: ASYNC110
            await trio.sleep(0.01)
        client.checkpoints.unpin(path)
        await steps(other, 2)
        await trio.sleep(10.0)
        assert any(row.kind == "rebuild" for row in world.runtime.pending())
        assert path in [saved.path for saved in client.checkpoints.saved]
        rest = await service.create_rest_client()
        found = [one.checkpoint_id for one in (await rest.list_checkpoints(other.model_id)).checkpoints]
        await world.settle()
        assert path not in [saved.path for saved in client.checkpoints.saved]
        return found

    outcome = run(story, CheckpointPolicy(keep_last=1), Delay(path="/create_model", nth=3, seconds=40.0))
    assert len(outcome.value) == 1
    assert len(rebuilt(outcome)) == 1


def test_a_crash_of_the_keeper_costs_nothing():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> list[int]:
        await steps(client, 2)
        await world.settle()
        crash(world, "runtime/sessions/session-0/checkpoints")
        await steps(client, 2, 2)
        await world.settle()
        await trio.sleep(1.0)
        return [saved.step for saved in client.checkpoints.saved]

    assert run(story, CheckpointPolicy(every_steps=1, keep_last=1)).value == [4]


def test_save_now_under_a_name_is_pinned():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> list[Any]:
        await steps(client, 1)
        future = client.checkpoints.save("mine")
        await steps(client, 3, 1)
        await world.settle()
        await trio.sleep(1.0)
        assert (await future).path.endswith("/mine")
        return [(saved.step, saved.pinned) for saved in client.checkpoints.saved]

    assert run(story, CheckpointPolicy(every_steps=1, keep_last=1)).value == [(1, True), (4, False)]


def test_unfinished_saves_are_no_reason_to_warn_at_the_end(caplog: pytest.LogCaptureFixture):
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> None:
        await (await client.optim_step(STEP))
        client.checkpoints.save()
        await client.aclose()

    run(story, CheckpointPolicy(every_steps=1))
    assert "abandoned" not in caplog.text
    assert "closed before" not in caplog.text


def test_a_rebuild_runs_an_unfinished_save_at_its_place():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> str:
        for number in range(3):
            await client.forward_backward(batch(number))
            last = await client.optim_step(STEP)
        await lose_model(world, client)
        await last
        await world.settle()
        path = client.checkpoints.saved[-1].path
        other = world.watch(await service.create_training_client_from_state_with_optimizer(path, checkpoints=False))
        await other.get_info()
        return path

    outcome = run(story, CheckpointPolicy(every_steps=3))
    assert len(rebuilt(outcome)) == 1
    assert outcome.models[0].digest == outcome.models[1].digest


def test_a_lost_reply_is_one_checkpoint():
    outcome = run(six_steps, CheckpointPolicy(every_steps=3), DropAfter(path="/save_weights", nth=1))
    assert outcome.value == [(3, 7), (6, 14)]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"every_steps": 0}, "checkpoints.every_steps"),
        ({"every_steps": True}, "checkpoints.every_steps"),
        ({"every_seconds": -1.0}, "checkpoints.every_seconds"),
        ({"every_bytes": 1.5}, "checkpoints.every_bytes"),
        ({"replay_share": 1.5}, "checkpoints.replay_share"),
        ({"replay_share": float("nan")}, "checkpoints.replay_share"),
        ({"name": "a/b"}, "checkpoints.name"),
        ({"ttl_seconds": 0}, "checkpoints.ttl_seconds"),
        ({"keep_last": 0}, "checkpoints.keep_last"),
        ({"keep_best": 1}, "best_metric"),
        ({"keep_best": -1}, "checkpoints.keep_best"),
        ({"best_is": "nicest"}, "checkpoints.best_is"),
        ({"every_step": 1}, "every_step: is no field"),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(given: dict[str, Any], words: str):
    with pytest.raises(InvalidInput, match=words):
        RecoveryPolicy(checkpoints=given)  # pyright: ignore[reportArgumentType]


def test_what_is_no_policy_is_refused_before_anything_is_asked():
    async def scenario(world: World) -> None:
        service = await world.runtime.create_service_client()
        with pytest.raises(InvalidInput, match="checkpoints: is of type int"):
            await service.create_lora_training_client(BASE_MODEL, checkpoints=3)  # pyright: ignore[reportArgumentType]
        client = await service.create_lora_training_client(BASE_MODEL, rank=RANK, checkpoints=True)
        with pytest.raises(InvalidInput, match=r"no automatic checkpoint of this client\. There are: none"):
            client.checkpoints.pin("tinker://a/weights/b")
        with pytest.raises(InvalidInput, match="metrics"):
            client.checkpoints.report([1.0])  # pyright: ignore[reportArgumentType]
        with pytest.raises(InvalidInput, match="step"):
            client.checkpoints.report({}, step=-1)
        for bad in (math.nan, math.inf, -math.inf, "low", None, True):
            with pytest.raises(InvalidInput, match=r"metrics\['eval'\]"):
                client.checkpoints.report({"eval": bad})  # pyright: ignore[reportArgumentType]

    simulate(scenario, seed=1)
