"""While a training client waits for a decision its samplers sample on, or wait for it, and end as it is decided."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio

from tests.clients.scenario import batch, train
from tests.clients.test_epochs import STEP, lose_model, lose_session, rebuilt, sample, steps, tokens
from tests.clients.test_server_classes import settings
from tinker_actors.clients import SamplingClient, ServiceClient, TrainingClient
from tinker_actors.config import RecoveryPolicy
from tinker_actors.errors import LaneStopped, OutageError, StaleSampler, TinkerError, UnknownVerdict
from tinker_actors.server_class import ServerClass
from tinker_actors.testing.faults import DropAfter, DropBefore, Fault
from tinker_actors.testing.operations import BASE_MODEL, PROMPT
from tinker_actors.testing.simulation import Outcome, World

ASK = RecoveryPolicy(unknown_outcome="ask")
LOST = DropAfter(path="/optim_step", nth=2)  # it had arrived
NEVER = DropBefore(path="/optim_step", nth=2)  # it had not


def run(story: Any, *faults: Fault, recovery: RecoveryPolicy | None = ASK) -> Outcome[Any]:
    return train(story, *faults, settings=settings(ServerClass.NONE), recovery=recovery, outage_bound=120.0)


async def three_samplers(service: ServiceClient, client: TrainingClient) -> dict[str, SamplingClient]:
    """Of the base model, of a path, and of the client's weights after one step."""
    await steps(client, 1)
    base = await service.create_sampling_client(base_model=BASE_MODEL)
    path = (await (await client.save_weights_for_sampler("named"))).path
    assert path is not None
    named = await service.create_sampling_client(model_path=path)
    return {"base": base, "named": named, "own": await client.save_weights_and_get_sampling_client()}


async def come_into_doubt(client: TrainingClient) -> None:
    await client.forward_backward(batch(2, 3, 4))
    with pytest.raises(UnknownVerdict):
        await (await client.optim_step(STEP))


async def sampled(samplers: dict[str, SamplingClient]) -> dict[str, Any]:
    return {name: tokens(await sample(sampler)) for name, sampler in samplers.items()}


@pytest.mark.parametrize("fault", [LOST, NEVER], ids=["arrived", "did not arrive"])
@pytest.mark.parametrize("lose", [lose_session, lose_model])
def test_samples_go_on_in_doubt_and_wait_through_a_loss_until_the_restore(
    fault: Fault, lose: Callable[[World, TrainingClient], Awaitable[None]]
) -> None:
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> list[Any]:
        samplers = await three_samplers(service, client)
        before = await sampled(samplers)
        await come_into_doubt(client)
        assert await sampled(samplers) == before
        await lose(world, client)
        after: dict[str, Any] = {}
        logprobs: list[Any] = []

        async def ask(name: str) -> None:
            after[name] = tokens(await sample(samplers[name]))

        async def ask_logprobs() -> None:
            logprobs.append(await samplers["own"].compute_logprobs(PROMPT))

        async with trio.open_nursery() as nursery:
            for name in samplers:
                nursery.start_soon(ask, name)
            nursery.start_soon(ask_logprobs)
            await trio.sleep(60.0)
            if lose is lose_session:  # nobody but the training client can make its weights again
                assert set(after) == {"base", "named"}
                assert logprobs == []
                (row, *_) = [row for row in world.runtime.pending() if row.kind == "sample"]
                assert "weights are being made available again" in row.reason
            assert client.verdict is not None
            for future in await client.restore():
                await future
        assert after == before
        (row,) = logprobs
        assert len(row) == len(PROMPT.to_ints())
        await steps(client, 3)
        assert await sampled(samplers) == before
        return [before, tokens(await sample(await client.save_weights_and_get_sampling_client()))]

    async def calm(world: World, service: ServiceClient, client: TrainingClient) -> list[Any]:
        before = await sampled(await three_samplers(service, client))
        await steps(client, 2, 3)
        return [before, tokens(await sample(await client.save_weights_and_get_sampling_client()))]

    outcome, undisturbed = run(story, fault), run(calm)
    assert outcome.value == undisturbed.value
    assert outcome.models[0].digest == undisturbed.models[0].digest
    assert len(rebuilt(outcome)) == 1
    assert outcome.left == ()


def test_samples_that_wait_for_a_decision_are_told_when_it_is_to_abandon() -> None:
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> None:
        samplers = await three_samplers(service, client)
        before = await sampled(samplers)
        await come_into_doubt(client)
        await lose_session(world, client)
        errors: list[TinkerError] = []

        async def ask() -> None:
            with pytest.raises(StaleSampler, match="given up") as caught:
                await sample(samplers["own"])
            errors.append(caught.value)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await trio.sleep(60.0)
            assert errors == []
            await client.abandon()
        assert len(errors) == 1
        with pytest.raises(StaleSampler, match="given up"):
            await sample(samplers["own"])
        for name in ("base", "named"):
            assert tokens(await sample(samplers[name])) == before[name]

    outcome = run(story, LOST)
    assert rebuilt(outcome) == []
    assert outcome.left == ()


@pytest.mark.parametrize("fault", [LOST, NEVER], ids=["arrived", "did not arrive"])
def test_a_sampler_that_is_asked_for_behind_a_doubt_is_told_and_made_after_the_restore(fault: Fault) -> None:
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> Any:
        await steps(client, 1)
        await client.forward_backward(batch(2, 3, 4))
        update = client.optim_step_async(STEP)
        told: list[TinkerError] = []

        async def ask() -> None:
            with pytest.raises(UnknownVerdict) as caught:
                await client.save_weights_and_get_sampling_client()
            told.append(caught.value)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
        assert told == [await update.exception()]
        with pytest.raises(LaneStopped, match="waits for a decision"):
            await client.save_weights_and_get_sampling_client()
        for future in await client.restore():
            await future
        return tokens(await sample(await client.save_weights_and_get_sampling_client()))

    async def calm(world: World, service: ServiceClient, client: TrainingClient) -> Any:
        await steps(client, 1, 2)
        return tokens(await sample(await client.save_weights_and_get_sampling_client()))

    outcome = run(story, fault)
    assert outcome.value == run(calm).value
    assert outcome.left == ()


@pytest.mark.parametrize("server_class", ServerClass)
def test_samplers_go_on_after_an_outage_that_has_stopped_their_client(server_class: ServerClass) -> None:
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> None:
        samplers = await three_samplers(service, client)
        before = await sampled(samplers)
        update = client.optim_step_async(STEP)
        world.network.partition()
        errors: list[TinkerError] = []

        async def ask(name: str) -> None:
            with pytest.raises(OutageError) as caught:
                await sample(samplers[name])
            errors.append(caught.value)

        async with trio.open_nursery() as nursery:
            for name in samplers:
                nursery.start_soon(ask, name)
        assert len(errors) == 3
        assert isinstance(await update.exception(), OutageError | UnknownVerdict)
        world.network.heal()
        assert await sampled(samplers) == before
        for future in await client.restore():
            await future
        assert await sampled(samplers) == before

    outcome = train(story, settings=settings(server_class), recovery=ASK, outage_bound=120.0)
    assert outcome.left == ()
