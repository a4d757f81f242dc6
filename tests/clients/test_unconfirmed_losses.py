"""What the server holds no longer may have gone with its session. Where an outage hides that, nothing is decided."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio

from tests.clients.scenario import batch
from tests.clients.test_epochs import STEP, lose_model, lose_session, rebuilt, run, sample, steps
from tests.clients.test_renewal_outages import BOUND, restored
from tests.clients.test_triggers import but, given_up
from tinker_actors.clients import ServiceClient, TrainingClient
from tinker_actors.config import RecoveryPolicy
from tinker_actors.errors import APIConnectionError, ModelLost, OutageError
from tinker_actors.local import ServerSettings
from tinker_actors.testing.faults import ExpireSessions, Fault, Partition, Status
from tinker_actors.testing.operations import BASE_MODEL
from tinker_actors.testing.simulation import Outcome, World

HIDDEN = Partition(path="/session_heartbeat", nth=1, seconds=3.0 * BOUND)
"""Nothing passes any more once it is asked whether the session lives."""
ALONE = but("model_lost", "promise_lost", "lane_stopped", "client_degraded")
"""A policy by which a model is rebuilt if it went with its session, and not if the server has lost it alone."""


def hide(story: Any, *faults: Any, recovery: RecoveryPolicy = ALONE, **options: Any) -> Outcome[Any]:
    return run(story, *faults, recovery=recovery, outage_bound=BOUND, **options)


async def undisturbed(world: World, service: ServiceClient, client: TrainingClient) -> list[float]:
    return await steps(client, 1, 2)


CALM = hide(undisturbed)


def test_a_model_that_went_with_its_session_is_rebuilt_once_that_is_known():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> list[float]:
        losses = await steps(client, 1)
        await lose_session(world, client)
        futures = [client.forward_backward_async(batch(2, 3, 4)), client.optim_step_async(STEP)]
        with pytest.raises(OutageError, match=r"whether the server has the model of .* could not be known"):
            await futures[0]
        await trio.sleep(3.0 * BOUND)
        (loss, _) = await restored(client)
        return [*losses, loss.metrics["loss:sum"]]

    outcome = hide(story, HIDDEN)
    assert outcome.value == CALM.value
    assert outcome.models[0].digest == CALM.models[0].digest
    assert len(rebuilt(outcome)) == 1
    assert given_up(outcome) == []


def test_a_model_that_is_lost_alone_is_so_once_that_is_known():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> None:
        await steps(client, 1)
        await lose_model(world, client)
        update = client.optim_step_async(STEP)
        assert isinstance(await update.exception(), OutageError)
        await trio.sleep(3.0 * BOUND)
        (again,) = await client.restore()
        assert isinstance(await again.exception(), ModelLost)

    assert given_up(hide(story, HIDDEN)) == ["model_lost"]


def test_a_server_that_answers_others_and_no_beat_says_nothing_against_the_session():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> float:
        await steps(client, 1)
        await lose_model(world, client)
        began = trio.current_time()
        assert isinstance(await client.optim_step_async(STEP).exception(), ModelLost)
        return trio.current_time() - began

    refused = Status(path="/session_heartbeat", status=500, times=1000)
    assert BOUND <= hide(story, refused).value <= BOUND + 5.0


def test_samples_and_questions_are_told_of_the_outage_and_not_of_a_loss():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> None:
        sampler = await service.create_sampling_client(base_model=BASE_MODEL)
        path = (await (await client.save_state("kept"))).path
        calls: dict[str, Callable[[], Awaitable[object]]] = {
            "sample": lambda: sample(sampler),
            "info": client.get_info,
            "lora": lambda: service.create_lora_training_client(BASE_MODEL),
            "state": lambda: service.create_training_client_from_state(path),
        }
        told: dict[str, BaseException] = {}

        async def call(name: str) -> None:
            with pytest.raises(Exception) as error:
                await calls[name]()
            told[name] = error.value

        await lose_session(world, client)
        async with trio.open_nursery() as nursery:
            for name in calls:
                nursery.start_soon(call, name)
        assert isinstance(told["sample"], OutageError)
        assert "nobody knows whether its session lives" in str(told["sample"])
        for name in ("info", "lora", "state"):
            assert isinstance(told[name], APIConnectionError), told[name]
        await trio.sleep(3.0 * BOUND)
        assert await sample(sampler)
        if client.verdict is not None:
            await restored(client)
        await steps(client, 1)
        await service.create_lora_training_client(BASE_MODEL)

    hide(story, HIDDEN, recovery=RecoveryPolicy(triggers=["session_lost"]))


FAILED = '{"error": "its session is gone", "category": "unknown"}'
"""As some servers say of a promise."""


@pytest.mark.parametrize(
    "loss",
    [
        ExpireSessions(path="/load_weights", nth=2),
        ExpireSessions(path="/load_weights", nth=2, later=0.002),
        Status(path="/retrieve_future", nth=7, status=200, body=FAILED),
    ],
    ids=["refused", "its promise is gone", "failed"],
)
def test_a_load_that_may_have_gone_with_its_session_is_none_that_was_refused(loss: Fault):
    def story(*, disturbed: bool) -> Any:
        async def told(world: World, service: ServiceClient, client: TrainingClient) -> None:
            await steps(client, 1)
            path = (await (await client.save_state("kept"))).path
            await steps(client, 2)
            load = await client.load_state_with_optimizer(path)
            if disturbed:
                assert isinstance(await load.exception(), OutageError)
                await trio.sleep(3.0 * BOUND)
                await restored(client)
            else:
                await load
            await steps(client, 3)

        return told

    fresh = ServerSettings(base_model=BASE_MODEL, load_first_only=True)
    calm = hide(story(disturbed=False), settings=fresh)
    outcome = hide(story(disturbed=True), loss, HIDDEN, settings=fresh)
    assert outcome.models[0].digest == calm.models[0].digest


@pytest.mark.parametrize(
    "losses",
    [
        [ExpireSessions(path="/forward_backward", nth=2)],
        [ExpireSessions(path="/forward_backward", nth=2, later=0.002)],
        [Status(path="/retrieve_future", nth=4, status=200, body=FAILED), ExpireSessions(path="/get_info", nth=2)],
    ],
    ids=["refused", "its promise is gone", "failed"],
)
def test_an_operation_that_may_have_gone_with_its_session_is_none_that_has_failed(losses: list[Fault]):
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> None:
        await steps(client, 1)
        forward = await client.forward_backward(batch(2, 3, 4))
        assert isinstance(await forward.exception(), OutageError)
        await trio.sleep(3.0 * BOUND)
        await restored(client)
        await (await client.optim_step(STEP))

    outcome = hide(story, *losses, HIDDEN)
    assert outcome.models[0].digest == CALM.models[0].digest
    assert len(rebuilt(outcome)) == 1
