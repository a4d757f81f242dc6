"""What memory has no room for is on the disk until it is sent: whatever the disk does, no data is ever wrong."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from supervision import ActorCrashed
from tests.clients.scenario import batch
from tests.clients.test_epochs import STEP, lose_model, lose_session, rebuilt, steps
from tests.runtime.test_crash_table import crash
from tinker_actors.clients import ServiceClient, TrainingClient
from tinker_actors.config import Config, RecoveryPolicy
from tinker_actors.errors import DiskDamaged, DiskError, DiskMissing, InvalidInput, LedgerFull
from tinker_actors.ledger import SpillStatistics
from tinker_actors.local import ServerSettings
from tinker_actors.ports import Disk, FileDisk, ThreadOffload
from tinker_actors.runtime import open_runtime
from tinker_actors.testing.disk import SimulatedDisk
from tinker_actors.testing.faults import CrashAt, Delay, Fault, FaultPlan
from tinker_actors.testing.local_server import local_server
from tinker_actors.testing.operations import BASE_MODEL, start_client
from tinker_actors.testing.simulation import Outcome, World, simulate

Story = Callable[[World, ServiceClient, TrainingClient], Awaitable[Any]]

KEY = "tml-never-to-be-seen-on-a-disk"
FOLDER = "/spilled"
SMALL = RecoveryPolicy(replay_bytes=600, spill_bytes=1_000_000, spill_folder=FOLDER, checkpoints=None)


def run(
    story: Story,
    *faults: Fault,
    recovery: RecoveryPolicy = SMALL,
    disk: SimulatedDisk | None = None,
) -> Outcome[Any]:
    async def scenario(world: World) -> Any:
        service = await world.runtime.create_service_client()
        return await story(world, service, world.watch(await start_client(service)))

    return simulate(
        scenario,
        seed=1,
        plan=FaultPlan(faults),
        settings=ServerSettings(base_model=BASE_MODEL, owners={"somebody": (KEY,)}, fwdbwd_max_chunk_len=2),
        config=msgspec.structs.replace(
            Config.load(base_url="https://server", api_key=KEY, environ={}), recovery=recovery
        ),
        disk=disk,
    )


def spilled(client: TrainingClient) -> SpillStatistics:
    return client._model.ledger.spilled()


async def segments(disk: Disk, folder: str = FOLDER) -> list[Path]:
    try:
        return [
            Path(folder, name, segment)
            for name in await disk.names(Path(folder))
            if not name.endswith(".lock")
            for segment in await disk.names(Path(folder, name))
        ]
    except DiskMissing:
        return []


@pytest.mark.parametrize("lose", [lose_model, lose_session])
def test_what_was_spilled_is_applied_again_bit_for_bit(lose: Any):
    async def calm(world: World, service: ServiceClient, client: TrainingClient) -> list[float]:
        return await steps(client, 1, 2, 3, 4, 5)

    async def broken(world: World, service: ServiceClient, client: TrainingClient) -> list[float]:
        losses = await steps(client, 1, 2, 3)
        await trio.sleep(1)
        assert spilled(client).requests > 200
        assert await segments(world.disk)
        await lose(world, client)
        return losses + await steps(client, 4, 5)

    one, other = run(calm, recovery=RecoveryPolicy(checkpoints=None)), run(broken)
    assert "spilled_bytes" not in one.counters
    assert other.counters["spilled_bytes"] > 0
    assert rebuilt(other)[0].replays == 6
    assert other.value == one.value
    assert other.models[0].digest == one.models[0].digest


async def pipelined(world: World, service: ServiceClient, client: TrainingClient) -> list[float]:
    futures = []
    for number in range(8):
        futures.append(client.forward_backward_async(batch(number, number + 1, number + 2)))
        futures.append(client.forward_backward_custom_async(batch(number + 3), _loss, differentiation="own"))
        client.optim_step_async(STEP)
    return [(await future).metrics["loss:sum"] for future in futures]


def _loss(data: Any, logprobs: Any) -> Any:
    return -sum(float(row.sum()) for row in logprobs), [-0.1 * (row * 0 + 1) for row in logprobs]


def test_what_waits_is_spilled_and_read_back_for_its_turn():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> Any:
        seen: list[SpillStatistics] = []

        async def watch() -> None:
            while True:
                seen.append(spilled(client))
                await trio.sleep(0.01)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch)
            losses = await pipelined(world, service, client)
            nursery.cancel_scope.cancel()
        assert max(one.requests for one in seen[:20]) > 500
        return losses

    slow = Delay(path="/forward_backward", nth=1, seconds=5.0)
    one, other = run(pipelined, slow, recovery=RecoveryPolicy(checkpoints=None)), run(story, slow)
    assert other.counters["spilled_bytes"] > 0
    assert other.value == one.value
    assert other.models[0].digest == one.models[0].digest
    assert [op.digest for op in other.models[0].applied] == [op.digest for op in one.models[0].applied]


@pytest.mark.parametrize("nth", range(1, 12, 2))
@pytest.mark.parametrize("point", ["training.before_send", "training.sent"])
def test_a_crash_of_the_client_loses_nothing_that_is_spilled(point: str, nth: int):
    slow = Delay(path="/forward_backward", nth=1, seconds=5.0)
    one = run(pipelined, slow, recovery=RecoveryPolicy(checkpoints=None))
    other = run(pipelined, slow, CrashAt(point=point, nth=nth))
    assert [event for event in other.events if isinstance(event, ActorCrashed)]
    assert other.counters["spilled_bytes"] > 0
    assert other.value == one.value
    assert other.models[0].digest == one.models[0].digest


def test_a_crash_of_the_task_that_spills_loses_nothing():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> list[float]:
        losses = await steps(client, 1, 2)
        crash(world, "runtime/spill")
        losses += await steps(client, 3, 4)
        await trio.sleep(1)
        assert spilled(client).requests > 200
        await lose_model(world, client)
        return losses + await steps(client, 5)

    async def calm(world: World, service: ServiceClient, client: TrainingClient) -> list[float]:
        return await steps(client, 1, 2, 3, 4, 5)

    one, other = run(calm), run(story)
    assert [event.path for event in other.events if isinstance(event, ActorCrashed)] == ["runtime/spill"]
    assert other.value == one.value
    assert other.models[0].digest == one.models[0].digest


def test_files_go_when_a_checkpoint_makes_them_needless():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> None:
        await steps(client, 1, 2, 3)
        await trio.sleep(1)
        assert len(await segments(world.disk)) == spilled(client).files > 0
        await (await client.save_state("one"))
        await steps(client, 4)
        await (await client.save_state("two"))
        await (await client.save_state("three"))
        await trio.sleep(1)
        assert spilled(client) == SpillStatistics(requests=0, bytes=0, files=0)
        assert await segments(world.disk) == []

    run(story)


def test_files_go_with_their_client_and_the_folder_with_the_runtime():
    disk = SimulatedDisk(random=random.Random(1))

    async def story(world: World, service: ServiceClient, client: TrainingClient) -> None:
        await steps(client, 1, 2, 3)
        await trio.sleep(1)
        assert await segments(disk)
        other = await start_client(service)
        await steps(other, 1, 2, 3)
        await other.aclose()
        await trio.sleep(1)
        assert {path.name.rpartition("-")[0] for path in await segments(disk)} == {"session-0-training-0"}

    run(story, disk=disk)
    assert [path for path in disk._entries if Path(FOLDER) in path.parents] == []


def test_what_is_over_is_forgotten():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> int:
        store = world.runtime._store
        assert store is not None
        await client.aclose()
        await trio.sleep(1)
        return len(store._spills)

    assert run(story).value == 0


def test_what_a_dead_process_has_left_goes_and_what_a_living_one_has_stays():
    left: list[SimulatedDisk] = []

    async def killed(world: World, service: ServiceClient, client: TrainingClient) -> None:
        await steps(client, 1, 2, 3)
        await trio.sleep(1)
        for path in await segments(world.disk):
            await world.disk.sync(path)
        left.append(world.disk.die())

    async def story(world: World, service: ServiceClient, client: TrainingClient) -> list[Path]:
        assert await segments(world.disk)
        await world.disk.make_folder(Path(FOLDER, "spill-7"))  # whose lock was lost
        await world.disk.append(Path(FOLDER, "spill-7", "old"), (b"x",))
        async with world.disk.lock(Path(FOLDER, "spill-1.lock")):
            await world.disk.make_folder(Path(FOLDER, "spill-1"))
            await world.disk.append(Path(FOLDER, "spill-1", "mine"), (b"x",))
            await steps(client, 1, 2, 3)
            await trio.sleep(1)
            return await segments(world.disk)

    run(killed)
    own, others = Path(FOLDER, "spill-0"), Path(FOLDER, "spill-1", "mine")
    found = run(story, disk=left[0]).value
    assert others in found
    assert {path.parent for path in found} == {own, others.parent}
    assert all(path.name.startswith("session-0-training-0") for path in found if path != others)


def test_no_secret_and_no_number_is_in_a_file():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> bytes:
        await steps(client, 1, 2, 3)
        await trio.sleep(1)
        found = b"".join([await world.disk.read(path) for path in await segments(world.disk)])
        for text in (KEY, client.model_id, service.session_id, "tinker-actors-", "cross_entropy"):
            assert text.encode() not in found
        return found

    assert len(run(story).value) > 600


@pytest.mark.parametrize("failing", ["append", "make_folder", "lock"])
def test_a_disk_that_refuses_is_said_once_and_memory_has_to_do(failing: str, caplog: pytest.LogCaptureFixture):
    def fault(call: str, path: Path) -> None:
        if call == failing:
            raise DiskError(path, "can't be used: Input/output error", "Look at the disk")

    disk = SimulatedDisk(random=random.Random(1), fault=fault)

    async def story(world: World, service: ServiceClient, client: TrainingClient) -> list[float]:
        losses = await steps(client, 1, 2)
        await trio.sleep(1)
        assert spilled(client).requests == 0
        with pytest.raises(LedgerFull, match=r"(?s)was not accepted.*Input/output error.*save_state"):
            await steps(client, 3)
        disk.fault = None
        await trio.sleep(60)  # it is tried again
        assert spilled(client).requests > 0
        losses += await steps(client, 3)
        await lose_model(world, client)
        return losses + await steps(client, 4)

    async def calm(world: World, service: ServiceClient, client: TrainingClient) -> list[float]:
        return await steps(client, 1, 2, 3, 4)

    one, other = run(calm), run(story, disk=disk)
    assert caplog.text.count("nothing more can be spilled") == 1
    assert other.value == one.value
    assert other.models[0].digest == one.models[0].digest


def test_when_all_is_full_nothing_more_is_accepted_until_a_checkpoint():
    policy = msgspec.structs.replace(SMALL, spill_bytes=500)

    async def story(world: World, service: ServiceClient, client: TrainingClient) -> int:
        done = 0
        with pytest.raises(LedgerFull, match=r"save_state\), and go on when that is done; or allow more") as caught:
            while done < 30:
                await steps(client, done)
                done += 1
                await trio.sleep(1)
        assert caught.value.operation == "forward_backward"
        assert 0 < spilled(client).bytes <= 500
        with pytest.raises(LedgerFull):
            client.forward_backward_async(batch(1, 2, 3))
        assert client._model.ledger.admission.statistics().count == 0, "what was not accepted holds no room"
        await (await client.save_state("room"))
        await lose_model(world, client)
        await steps(client, 90, 91)
        return done

    async def calm(world: World, service: ServiceClient, client: TrainingClient) -> None:
        await steps(client, *range(done), 90, 91)

    other = run(story, recovery=policy)
    done = other.value
    assert done >= 2
    assert other.models[0].digest == run(calm).models[0].digest


def test_the_checkpoints_that_the_budget_asks_for_keep_it_from_being_full():
    policy = RecoveryPolicy(replay_bytes=1500, spill_bytes=1500, spill_folder=FOLDER)

    async def story(world: World, service: ServiceClient, client: TrainingClient) -> int:
        await steps(client, *range(40))
        return len(client.checkpoints.saved)

    assert run(story, recovery=policy).value > 0


def test_an_operation_larger_than_all_room_is_accepted_where_it_is_alone():
    policy = RecoveryPolicy(replay_bytes=10, spill_bytes=0, checkpoints=None)

    async def story(world: World, service: ServiceClient, client: TrainingClient) -> None:
        await (await client.forward_backward(batch(1, 2)))
        with pytest.raises(LedgerFull):
            await client.forward_backward(batch(3, 4))
        await (await client.save_state("room"))

    run(story, recovery=policy)


def test_a_spilled_operation_that_can_t_be_read_fails_alone():
    def story(damage: bool) -> Story:
        async def told(world: World, service: ServiceClient, client: TrainingClient) -> list[str]:
            futures = [client.forward_backward_async(batch(n, n + 1, n + 2)) for n in range(12) if damage or n != 11]
            futures.append(client.optim_step_async(STEP))
            await trio.sleep(1)
            if damage:  # what waits last is spilled first
                (path, *_) = await segments(world.disk)
                world.disk.damage(path, 5)
            ends = []
            for future in futures:
                error = await future.exception()
                ends.append(type(error).__name__)
                if error is not None:
                    assert str(path) in str(error)
                    assert "does not hold what was spilled to it" in str(error)
            return ends

        return told

    slow = Delay(path="/forward_backward", nth=1, seconds=5.0)
    other = run(story(True), slow)
    # the last but those that stay in memory, being next in turn when there were no more
    assert other.value.count("DiskDamaged") == 1
    failed = other.value.index("DiskDamaged")
    assert other.value[:failed] + other.value[failed + 1 :] == ["NoneType"] * 12

    async def without(world: World, service: ServiceClient, client: TrainingClient) -> None:
        futures = [client.forward_backward_async(batch(n, n + 1, n + 2)) for n in range(12) if n != failed]
        await client.optim_step_async(STEP)
        for future in futures:
            await future

    assert other.models[0].digest == run(without).models[0].digest


@pytest.mark.parametrize("kind", ["a flipped bit", "a lost end", "no answer"])
def test_a_replay_that_can_t_be_read_stops_the_lane_and_is_never_wrong(kind: str):
    def fault(call: str, path: Path) -> None:
        if call == "read":
            raise DiskError(path, "can't be read: Input/output error", "Look at the disk")

    async def story(world: World, service: ServiceClient, client: TrainingClient) -> int:
        await steps(client, 1, 2, 3)
        await trio.sleep(1)
        (path, *_) = await segments(world.disk)
        size = await world.disk.size(path)
        assert size is not None
        if kind == "a flipped bit":
            world.disk.damage(path, size // 2)
        elif kind == "a lost end":
            await world.disk.truncate(path, size - 1)
        else:
            world.disk.fault = fault
        await lose_model(world, client)
        with pytest.raises(
            DiskError, match=r"can't be applied again, and .* not be rebuilt\. Create a new client"
        ) as e:
            await steps(client, 4)
        assert type(e.value) is (DiskError if kind == "no answer" else DiskDamaged)
        world.disk.fault = None
        return len(client.accepted)

    run(story)


async def test_real_files_are_this_user_s_alone_and_go_with_the_runtime(tmp_path: Path):
    policy = RecoveryPolicy(replay_bytes=600, checkpoints=None, spill_folder=str(tmp_path / "spilled"))
    disk = FileDisk(ThreadOffload(1))
    async with local_server(ServerSettings(base_model=BASE_MODEL)) as server:
        config = Config.load(base_url=server.url, api_key=server.key, environ={}, recovery=policy)
        async with open_runtime(config=config, server=server) as runtime:
            client = await start_client(await runtime.create_service_client())
            await steps(client, 1, 2, 3)
            with trio.fail_after(30):
                while not spilled(client).requests:  # noqa: ASYNC110  # the disk has no event
                    await trio.sleep(0.01)
            found = await segments(disk, str(tmp_path / "spilled"))
            assert found
            assert found[0].parent.stat().st_mode & 0o777 == 0o700
        assert await disk.names(tmp_path / "spilled") == ()


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("spill_bytes", -1, "0 or more"),
        ("spill_folder", 7, "path of a folder"),
        ("when_full", "wait", '"refuse" or "forget"'),
    ],
)
def test_bad_values_are_refused_by_name(field: str, value: Any, words: str):
    with pytest.raises(InvalidInput, match=words) as caught:
        RecoveryPolicy(**{field: value})
    assert caught.value.field == f"recovery.{field}"
