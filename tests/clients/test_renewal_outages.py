"""A session that the server has ended can't be renewed for an outage: it is an outage as any, and all can go on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio

from tests.clients.scenario import batch
from tests.clients.test_epochs import POLICY, STEP, lose_session, rebuilt, run, sample, steps, tokens
from tests.clients.test_triggers import given_up
from tests.runtime.test_crash_table import crash
from tinker_actors.clients import SamplingClient, ServiceClient, TrainingClient
from tinker_actors.config import RecoveryPolicy
from tinker_actors.errors import ClosedError, LaneStopped, ModelLost, OutageError, TinkerError
from tinker_actors.ledger import Future
from tinker_actors.recovery.events import RecoveryCompleted
from tinker_actors.sessions import SessionLost, SessionRenewed, SessionState
from tinker_actors.testing.faults import Status
from tinker_actors.testing.operations import BASE_MODEL
from tinker_actors.testing.simulation import Outcome, World

BOUND = 100.0
ROUND = BOUND + 2 * 60.0
"""Seconds within which one round of tries is over: the first and the last one may take a minute each, as any."""


def endure(story: Any, *faults: Any, **options: Any) -> Outcome[Any]:
    return run(story, *faults, outage_bound=BOUND, **options)


async def until_row(world: World, kind: str) -> None:
    while not any(row.kind == kind for row in world.runtime.pending()):  # noqa: ASYNC110  # as a program would
        await trio.sleep(0.001)


async def cut_off(world: World, client: TrainingClient) -> None:
    """The server ends the session, and while another is asked for, nothing passes any more."""
    await lose_session(world, client)
    client._session.doubt()
    await until_row(world, "renew_session")
    world.network.partition()


async def undisturbed(world: World, service: ServiceClient, client: TrainingClient) -> list[float]:
    return await steps(client, 1, 2, 3)


def accepted(client: TrainingClient) -> list[Future[Any]]:
    return [client.forward_backward_async(batch(2, 3, 4)), client.optim_step_async(STEP)]


async def restored(client: TrainingClient) -> list[Any]:
    return [await future for future in await client.restore()]


async def outage(call: Callable[[], Awaitable[object]], match: str = "no usable answer for") -> OutageError:
    with pytest.raises(OutageError, match=match) as told:
        await call()
    return told.value


def renewals(outcome: Outcome[Any]) -> list[type]:
    return [type(event) for event in outcome.events if isinstance(event, SessionLost | SessionRenewed)]


CALM = endure(undisturbed)


@pytest.mark.parametrize("saved", [True, False], ids=["from a checkpoint", "from nothing"])
def test_what_was_accepted_is_kept_and_restore_goes_on(saved: bool):
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> list[float]:
        losses = await steps(client, 1)
        if saved:
            await (await client.save_state("first"))
        futures = accepted(client)
        await cut_off(world, client)
        began = trio.current_time()
        errors = [await future.exception() for future in futures]
        assert BOUND <= trio.current_time() - began <= ROUND
        assert isinstance(errors[0], OutageError)
        assert errors[0] is errors[1] is client.verdict
        assert "then restore() of its client goes on" in str(errors[0])
        assert any(line.startswith("session-0 renew_session: ") for line in errors[0].pending)
        assert service.state is SessionState.RENEWING
        with pytest.raises(LaneStopped, match="waits for a decision"):
            await client.optim_step(STEP)
        world.network.heal()
        (loss, _) = await restored(client)
        assert service.state is SessionState.ACTIVE
        return [*losses, loss.metrics["loss:sum"], *(await steps(client, 3))]

    outcome = endure(story)
    assert outcome.value == CALM.value
    assert outcome.models[0].digest == CALM.models[0].digest
    assert renewals(outcome) == [SessionLost, SessionRenewed]
    assert len(rebuilt(outcome)) == 1
    assert given_up(outcome) == []


@pytest.mark.parametrize("seconds", [BOUND + 1.0, 7.0 * BOUND])
@pytest.mark.parametrize("after", [0.0, 0.002, 0.01, 0.03, 0.06, 0.12, 0.3, 1.0])
def test_whenever_the_outage_begins_it_ends_in_errors_that_restore_goes_on_from(after: float, seconds: float):
    """Before the end of the session is noticed, while another is had, a model is made or its state is applied."""

    async def story(world: World, service: ServiceClient, client: TrainingClient) -> list[float]:
        losses = await steps(client, 1)
        await (await client.save_state("first"))
        futures = accepted(client)
        await lose_session(world, client)
        await trio.sleep(after)
        world.network.partition()
        healed = trio.current_time() + seconds
        while True:
            errors = [await future.exception() for future in futures]
            if errors == [None] * len(errors):
                break
            assert all(isinstance(error, OutageError) for error in errors if error is not None), errors
            await trio.sleep(max(0.0, healed - trio.current_time()))
            world.network.heal()
            losses += [(await future).metrics["loss:sum"] for future in futures[:1] if errors[0] is None]
            futures = list(await client.restore())
        if len(futures) == 2:
            losses.append((await futures[0]).metrics["loss:sum"])
        world.network.heal()
        return losses + await steps(client, 3)

    outcome = endure(story)
    assert outcome.value == CALM.value
    assert outcome.models[0].digest == CALM.models[0].digest
    assert given_up(outcome) == []


def test_who_goes_on_in_vain_is_told_once_for_each_outage_bound():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> int:
        await steps(client, 1)
        futures, told = accepted(client), 0
        await cut_off(world, client)
        began = trio.current_time()
        while trio.current_time() - began < 10.0 * BOUND:
            before = trio.current_time()
            assert isinstance(await futures[0].exception(), OutageError)
            assert trio.current_time() - before >= BOUND
            told += 1
            futures = list(await client.restore())
        world.network.heal()
        for future in futures:
            await future
        await steps(client, 3)
        return told

    outcome = endure(story)
    assert 3 <= outcome.value <= 10
    assert outcome.models[0].digest == CALM.models[0].digest


def test_nobody_who_comes_when_the_network_is_whole_is_told_of_the_outage():
    """A try that was made before may still hang, and end last: what it ends in is no news for who comes now."""

    async def story(world: World, service: ServiceClient, client: TrainingClient) -> None:
        sampler = await service.create_sampling_client(base_model=BASE_MODEL)
        await steps(client, 1)
        futures = accepted(client)
        await cut_off(world, client)
        assert isinstance(await futures[1].exception(), OutageError)
        await trio.sleep(offset)
        world.network.heal()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sample, sampler)
            nursery.start_soon(service.create_lora_training_client, BASE_MODEL)
            await restored(client)
        await steps(client, 3)

    for offset in (0.0, 5.0, 12.0, 30.0, 65.0, 100.0, 130.0, 150.0):
        assert endure(story).models[0].digest == CALM.models[0].digest, offset


def test_abandon_ends_it():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> list[float]:
        await steps(client, 1)
        futures = accepted(client)
        await cut_off(world, client)
        assert isinstance(await futures[0].exception(), OutageError)
        await client.abandon()
        with pytest.raises(LaneStopped, match="was given up"):
            await client.optim_step(STEP)
        world.network.heal()
        other = world.watch(await service.create_lora_training_client(BASE_MODEL, rank=2, seed=5))
        return await steps(other, 1)

    outcome = endure(story)
    assert len(outcome.value) == 1
    assert given_up(outcome) == ["abandoned"]
    assert renewals(outcome) == [SessionLost, SessionRenewed]


def test_several_clients_are_told_at_once_and_each_goes_on_when_it_is_told_to():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> list[float]:
        other = await service.create_lora_training_client(BASE_MODEL, rank=2, seed=5)
        calm = await steps(other, 1)
        await steps(client, 1)
        first, second = accepted(client), other.optim_step_async(STEP)
        await cut_off(world, client)
        times: list[float] = []

        async def told(future: Future[Any]) -> None:
            assert isinstance(await future.exception(), OutageError)
            times.append(trio.current_time())

        async with trio.open_nursery() as nursery:
            for future in (*first, second):
                nursery.start_soon(told, future)
        assert len(set(times)) == 1
        world.network.heal()
        await restored(client)
        assert isinstance(other.verdict, OutageError)
        await steps(client, 3)
        await restored(other)
        return calm

    outcome = endure(story)
    assert outcome.models[0].digest == CALM.models[0].digest
    assert len(rebuilt(outcome)) == 2


async def samplers_of(service: ServiceClient, client: TrainingClient) -> dict[str, SamplingClient]:
    path = (await (await client.save_weights_for_sampler("named"))).path
    return {
        "base": await service.create_sampling_client(base_model=BASE_MODEL),
        "named": await service.create_sampling_client(model_path=path),
        "ephemeral": await client.save_weights_and_get_sampling_client(),
    }


def test_samples_that_wait_for_their_weights_are_told_and_go_on_by_themselves():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> tuple[Any, Any]:
        await steps(client, 1)
        samplers = await samplers_of(service, client)
        before = {name: tokens(await sample(sampler)) for name, sampler in samplers.items()}
        await cut_off(world, client)
        told: dict[str, float] = {}

        async def wait(name: str) -> None:
            await outage(lambda: sample(samplers[name]), "a training client|weights are not at the server")
            told[name] = trio.current_time()

        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            for name in samplers:
                nursery.start_soon(wait, name)
        assert len(set(told.values())) == 1
        assert BOUND <= told["base"] - began <= ROUND
        error = await outage(lambda: sample(samplers["ephemeral"]), "waits for a decision")
        assert error.pending
        later = trio.current_time()
        await outage(lambda: sample(samplers["named"]))
        assert trio.current_time() - later <= 2 * ROUND
        world.network.heal()
        after = {name: tokens(await sample(samplers[name])) for name in ("base", "named")}
        assert isinstance(client.verdict, OutageError)
        assert await restored(client) == []
        after["ephemeral"] = tokens(await sample(samplers["ephemeral"]))
        await steps(client, 2, 3)
        return before, after

    outcome = endure(story)
    before, after = outcome.value
    assert before == after
    assert outcome.models[0].digest == CALM.models[0].digest


def test_weights_that_an_outage_keeps_away_once_the_session_is_renewed_come_back():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> tuple[Any, Any]:
        sampler = await service.create_sampling_client(base_model=BASE_MODEL)
        before = tokens(await sample(sampler))
        await lose_session(world, client)
        client._session.doubt()
        await until_row(world, "create_sampling_session")
        world.network.partition()
        error = await outage(lambda: sample(sampler), "weights are not at the server")
        assert service.state is SessionState.ACTIVE
        assert any("create_sampling_session" in line for line in error.pending)
        assert any(row.kind == "create_sampling_session" for row in world.runtime.pending())
        await trio.sleep(3.0 * BOUND)
        world.network.heal()
        after = tokens(await sample(sampler))
        await restored(client)
        return before, after

    before, after = endure(story).value
    assert before == after


def test_samples_that_wait_for_a_model_are_told_with_its_operations():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> tuple[Any, Any]:
        await steps(client, 1)
        sampler = await client.save_weights_and_get_sampling_client()
        before = tokens(await sample(sampler))
        await lose_session(world, client)
        client._session.doubt()
        while client._model.ledger.lost is None or service.state is not SessionState.ACTIVE:  # noqa: ASYNC110
            await trio.sleep(0.001)
        world.network.partition()
        began = trio.current_time()
        error = await outage(lambda: sample(sampler), "waits for a decision")
        assert error.__cause__ is client.verdict
        assert trio.current_time() - began <= ROUND
        world.network.heal()
        await restored(client)
        return before, tokens(await sample(sampler))

    before, after = endure(story).value
    assert before == after


def test_what_is_created_meanwhile_is_told_of_the_outage_and_can_be_created_when_it_is_over():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> None:
        await steps(client, 1)
        path = (await (await client.save_state("first"))).path
        await cut_off(world, client)
        calls: dict[str, Callable[[], Awaitable[object]]] = {
            "lora": lambda: service.create_lora_training_client(BASE_MODEL),
            "from state": lambda: service.create_training_client_from_state(path),
            "sampler": lambda: service.create_sampling_client(base_model=BASE_MODEL),
            "copy": lambda: service.copy_weights(path),
            "capabilities": service.get_server_capabilities,
            "info": client.get_info,
        }
        told: dict[str, TinkerError] = {}

        async def call(name: str) -> None:
            with pytest.raises(TinkerError) as error:
                await calls[name]()
            told[name] = error.value

        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            for name in calls:
                nursery.start_soon(call, name)
            await trio.sleep(1.0)
            waiting = [row for row in world.runtime.pending() if row.reason == "its session is being renewed"]
            assert sorted(row.kind for row in waiting) == [
                *("copy_weights", "create_model", "create_model", "create_sampling_session")
            ]
        assert trio.current_time() - began <= 2.0 * ROUND
        for name in ("lora", "from state", "sampler", "copy"):
            assert isinstance(told[name], OutageError), told[name]
            assert "its session and gives no other: no usable answer for" in str(told[name])
            assert "renew_session" in str(told[name])
        assert not any(isinstance(error, ModelLost | ClosedError) for error in told.values()), told
        world.network.heal()
        for create in calls.values():
            if create is not calls["info"]:
                await create()
        await outage(client.get_info, "waits for a decision")
        await restored(client)
        assert (await client.get_info()).model_id == client.model_id

    endure(story)


def test_what_waits_is_listed_with_its_reason():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> tuple[str, str, str]:
        await steps(client, 1)
        futures = accepted(client)
        await cut_off(world, client)
        await trio.sleep(BOUND * 0.9)
        rows = {row.kind: str(row) for row in world.runtime.pending()}
        first = rows["renew_session"]
        await futures[1].exception()
        rows = {row.kind: str(row) for row in world.runtime.pending()}
        paused, waits = rows["renew_session"], rows["rebuild"]
        world.network.heal()
        await restored(client)
        await steps(client, 3)
        assert not world.runtime.pending()
        return first, paused, waits

    first, paused, waits = endure(story).value
    assert "try 2 in" in first
    assert "no other was had for" in paused
    assert "next try in" in paused
    assert "rebuild: undecided for" in waits
    assert "restore, assume_applied or abandon" in waits


@pytest.mark.parametrize("after", [0.0, 30.0, ROUND + 20.0])
def test_a_crash_of_the_manager_meanwhile_costs_nothing(after: float):
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> None:
        await steps(client, 1)
        futures = accepted(client)
        await cut_off(world, client)
        await trio.sleep(after)
        crash(world, "runtime/sessions/session-0/manager")
        for future in futures:
            assert isinstance(await future.exception(), OutageError)
        crash(world, "runtime/sessions/session-0/manager")
        world.network.heal()
        await restored(client)
        await steps(client, 3)
        assert len(world.service.sessions.alive()) == 1

    outcome = endure(story)
    assert outcome.models[0].digest == CALM.models[0].digest
    assert renewals(outcome) == [SessionLost, SessionRenewed]


@pytest.mark.parametrize("after", [1.0, ROUND, ROUND + 30.0])
def test_a_session_that_is_being_renewed_can_be_closed(after: float):
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> list[str]:
        sampler = await service.create_sampling_client(base_model=BASE_MODEL)
        await steps(client, 1)
        futures = accepted(client)
        await cut_off(world, client)
        told: list[str] = []

        async def wait() -> None:
            with pytest.raises((ClosedError, OutageError)) as error:
                while True:
                    await sample(sampler)
            told.append(type(error.value).__name__)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            await trio.sleep(after)
            began = trio.current_time()
            await service.aclose()
            assert trio.current_time() - began < 30.0
        assert service.state is SessionState.FINISHED
        told += [type(await future.exception()).__name__ for future in futures]
        world.network.heal()
        return told

    outcome = endure(story)
    assert outcome.value == ["ClosedError"] * 3 if after == 1.0 else ["OutageError"] * 3
    assert outcome.left == ()


def test_an_outage_of_one_renewal_is_none_of_the_next():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> None:
        await steps(client, 1)
        futures = accepted(client)
        await cut_off(world, client)
        assert isinstance(await futures[0].exception(), OutageError)
        world.network.heal()
        await restored(client)
        await cut_off(world, client)
        await trio.sleep(1.0)
        began = trio.current_time()
        await outage(lambda: service.create_lora_training_client(BASE_MODEL))
        assert BOUND <= trio.current_time() - began <= ROUND
        world.network.heal()
        await restored(client)
        await steps(client, 3)

    outcome = endure(story)
    assert outcome.models[0].digest == CALM.models[0].digest
    assert renewals(outcome) == [SessionLost, SessionRenewed] * 2


def test_weights_are_copied_into_the_session_that_takes_the_place_of_a_lost_one():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> None:
        await steps(client, 1)
        path = (await (await client.save_state("kept"))).path
        before = service.session_id
        await lose_session(world, client)
        client._session.doubt()
        await until_row(world, "renew_session")
        assert await service.copy_weights(path)
        assert service.session_id != before

    endure(story)


def test_with_lane_stopped_another_client_takes_over_when_the_outage_is_over():
    taken: list[TrainingClient] = []

    async def story(world: World, service: ServiceClient, client: TrainingClient) -> str:
        await steps(client, 1)
        await (await client.save_state("first"))
        run_id, (future, _) = client.model_id, accepted(client)
        await cut_off(world, client)
        assert isinstance(await future.exception(), OutageError)
        await trio.sleep(BOUND)
        world.network.heal()
        while not taken:  # noqa: ASYNC110  # a callback has no event
            await trio.sleep(1.0)
        await steps(world.watch(taken[0]), 2, 3)
        return run_id

    policy = RecoveryPolicy(
        triggers=[*POLICY.triggers, "lane_stopped"], on_recovery=lambda old, new, checkpoint: taken.append(new)
    )
    outcome = endure(story, recovery=policy)
    assert outcome.models[1].digest == CALM.models[0].digest
    assert [event.run_id for event in outcome.events if isinstance(event, RecoveryCompleted)] == [outcome.value]


def test_a_server_that_refuses_to_renew_it_after_the_outage_has_lost_it():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> None:
        futures = accepted(client)
        await cut_off(world, client)
        assert isinstance(await futures[0].exception(), OutageError)
        world.network.heal()
        (again, _) = await client.restore()
        assert isinstance(await again.exception(), ModelLost)
        assert service.state is SessionState.LOST

    endure(story, Status(path="/create_session", nth=2, status=403, times=100))


def test_a_server_that_answers_with_errors_only_is_an_outage_too():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> None:
        await steps(client, 1)
        futures = accepted(client)
        await lose_session(world, client)
        assert isinstance(await futures[1].exception(), OutageError)
        await trio.sleep(600.0)
        await restored(client)
        await steps(client, 3)

    outcome = endure(story, Status(path="/create_session", nth=2, status=503, times=20))
    assert outcome.models[0].digest == CALM.models[0].digest


def test_by_number_of_tries_it_is_over_sooner_and_is_the_same():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> float:
        await steps(client, 1)
        futures = accepted(client)
        began = trio.current_time()
        await lose_session(world, client)
        assert isinstance(await futures[1].exception(), OutageError)
        lasted = trio.current_time() - began
        await restored(client)
        await steps(client, 3)
        return lasted

    outcome = endure(story, Status(path="/create_session", nth=2, status=503, times=2), max_retries=1)
    assert outcome.value < 20.0
    assert outcome.models[0].digest == CALM.models[0].digest
