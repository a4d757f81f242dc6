"""How old a sampling client's weights are, and what is done about it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.clients.scenario import batch, train
from tinker_actors.clients import SamplingClient, ServiceClient, TrainingClient
from tinker_actors.errors import InvalidInput, OperationCancelled, StaleSampler
from tinker_actors.testing.faults import Status
from tinker_actors.testing.operations import BASE_MODEL, PROMPT
from tinker_actors.testing.simulation import World
from tinker_actors.types import AdamParams, SamplingParams

STEP = AdamParams(learning_rate=1e-2)
PARAMS = SamplingParams(max_tokens=1, seed=3)


async def update(client: TrainingClient, times: int = 1) -> None:
    for _ in range(times):
        await client.forward_backward(batch(1))
        await (await client.optim_step(STEP))


async def samplers(service: ServiceClient, client: TrainingClient) -> list[SamplingClient]:
    """Of the weights as they are: an ephemeral one, a named one, and one by its path."""
    path = (await (await client.save_weights_for_sampler("by-path"))).path
    return [
        await client.save_weights_and_get_sampling_client(),
        await client.save_weights_and_get_sampling_client("named"),
        await service.create_sampling_client(model_path=path),
    ]


def test_every_client_knows_the_operation_that_its_weights_show():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> list[Any]:
        await update(client)
        made = await samplers(service, client)
        seen = [(one.shown_op_no, one.staleness) for one in made]
        await update(client, 2)
        await (await client.load_state((await (await client.save_state("s"))).path))
        return [seen, [one.staleness for one in made]]

    seen, later = train(story).value
    assert [behind for _, behind in seen] == [0, 0, 0]
    assert [op_no for op_no, _ in seen] == [4, 5, 3]
    assert later == [3, 3, 3]


def test_an_update_that_fails_or_is_taken_back_is_none():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> int | None:
        sampler = await client.save_weights_and_get_sampling_client()
        first, second = client.optim_step_async(STEP), client.optim_step_async(STEP)
        assert sampler.staleness == 2
        assert second.cancel()
        with pytest.raises(OperationCancelled):
            await second
        with pytest.raises(Exception, match="400"):
            await first
        return sampler.staleness

    assert train(story, Status(path="/optim_step", status=400)).value == 0


def test_an_update_before_the_weights_that_fails_makes_them_no_fresher():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> list[int | None]:
        failing = client.optim_step_async(STEP)
        saving = client.save_weights_and_get_sampling_client_async()
        assert failing.cancel()
        sampler = await saving
        seen = [sampler.staleness]
        await update(client)
        return [*seen, sampler.staleness]

    assert train(story).value == [0, 1]


@pytest.mark.parametrize("which", [0, 1, 2])
def test_stale_weights_are_refused_before_anything_is_sent(which: int):
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> int:
        sampler = (await samplers(service, client))[which]
        sampler.guard_staleness(1)
        await update(client)
        await sampler.sample(PROMPT, 1, PARAMS)
        await update(client)
        sent = world.runtime.counters()["sample_requests"]
        with pytest.raises(StaleSampler, match=r"2 updates ago \(1 are allowed\)"):
            await sampler.sample(PROMPT, 1, PARAMS)
        return world.runtime.counters()["sample_requests"] - sent

    assert train(story).value == 0


def test_a_warning_comes_at_the_first_and_when_it_has_doubled(caplog: pytest.LogCaptureFixture):
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> None:
        sampler = await client.save_weights_and_get_sampling_client()
        sampler.guard_staleness(0, on_stale="warn")
        for _ in range(5):
            await update(client)
            await sampler.sample(PROMPT, 1, PARAMS)

    train(story)
    said = [record.message for record in caplog.records if "updates ago" in record.message]
    assert ["1 updates" in said[0], "3 updates" in said[1]] == [True, True]
    assert len(said) == 2


def test_what_can_not_be_minded():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> None:
        base = await service.create_sampling_client(base_model=BASE_MODEL)
        assert (base.shown_op_no, base.staleness) == (None, None)
        with pytest.raises(InvalidInput, match="no training client"):
            base.guard_staleness(1)
        sampler = await client.save_weights_and_get_sampling_client()
        with pytest.raises(InvalidInput, match="max_updates"):
            sampler.guard_staleness(-1)
        odd: Any = "ignore"
        with pytest.raises(InvalidInput, match="on_stale"):
            sampler.guard_staleness(1, on_stale=odd)

    train(story)
