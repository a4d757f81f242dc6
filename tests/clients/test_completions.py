"""One poll for all samples of a sampling session, where the server offers it."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from tests.clients.scenario import batch, train
from tests.telemetry.reporting import crash
from tinker_actors.clients import SamplingClient, ServiceClient, TrainingClient
from tinker_actors.config import RecoveryPolicy
from tinker_actors.local import ServerSettings
from tinker_actors.testing.faults import DropAfter, DropBefore, Fault, Status
from tinker_actors.testing.operations import BASE_MODEL, PROMPT
from tinker_actors.testing.simulation import Outcome, World
from tinker_actors.types import AdamParams, SamplingParams, SessionCancelled

OFFERED = ServerSettings(base_model=BASE_MODEL, sample_use_retrieve_futures=True)
COUNT = 60


async def many(sampler: SamplingClient, count: int = COUNT) -> list[list[int]]:
    """So many samples at once, each with a seed of its own."""
    found: dict[int, list[int]] = {}

    async def one(seed: int) -> None:
        response = await sampler.sample(PROMPT, 1, SamplingParams(max_tokens=3, seed=seed))
        found[seed] = response.sequences[0].tokens.tolist()

    async with trio.open_nursery() as nursery:
        for seed in range(count):
            nursery.start_soon(one, seed)
    return [found[seed] for seed in range(count)]


def run(settings: ServerSettings, *faults: Fault, lose: bool = False) -> Outcome[Any]:
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> list[list[int]]:
        await client.forward_backward(batch(1, 2))
        await (await client.optim_step(AdamParams(learning_rate=0.1)))
        sampler = await client.save_weights_and_get_sampling_client()
        first = await many(sampler)
        if lose:
            for session in world.service.sessions.alive():
                await world.service.end_session(session, "was ended", SessionCancelled(), abandon=True)
        assert await many(sampler) == first
        return first

    return train(story, *faults, settings=settings, recovery=RecoveryPolicy())


def held(settings: ServerSettings) -> tuple[list[list[int]], int, int]:
    """What many samples give, how many polls the server holds at most meanwhile, and how many polls there were."""

    async def story(world: World, service: ServiceClient, client: TrainingClient) -> Any:
        sampler = await service.create_sampling_client(base_model=BASE_MODEL)
        before, most = world.runtime.counters()["polls"], 0
        found: list[list[list[int]]] = []

        async def sample() -> None:
            found.append(await many(sampler))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(sample)
            while not found:
                most = max(most, len(world.service.futures._holds))
                await trio.sleep(0.001)
        return found[0], most, world.runtime.counters()["polls"] - before

    return train(story, settings=settings).value


def test_one_poll_is_held_and_not_one_for_each_sample():
    one_by_one, together = held(ServerSettings(base_model=BASE_MODEL)), held(OFFERED)
    assert together[0] == one_by_one[0]
    assert one_by_one[1] > 10
    assert together[1] == 1
    assert COUNT < together[2] <= COUNT + 30  # each is fetched once


def test_what_was_fetched_the_server_forgets():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> int:
        sampler = await service.create_sampling_client(base_model=BASE_MODEL)
        await many(sampler)
        await many(sampler, 1)
        kept = [future for future in world.service.futures._futures.values() if "sample" in future.what]
        return len(kept)

    assert train(story, settings=OFFERED).value <= 2


@pytest.mark.parametrize(
    "fault",
    [
        *(Status(path="/retrieve_futures", status=status, times=1000) for status in (400, 403, 404, 410)),
        *(Status(path="/retrieve_futures", nth=nth, status=503, times=3) for nth in (1, 3)),
        DropBefore(path="/retrieve_futures", times=2),
        DropAfter(path="/retrieve_futures", times=2),
    ],
    ids=repr,
)
def test_whatever_the_poll_answers_all_samples_come(fault: Fault):
    outcome = run(OFFERED, fault)
    assert outcome.value == run(OFFERED).value
    assert outcome.seconds < 25.0, "nobody waits for a poll that has ended"


def test_samples_go_on_in_the_session_that_takes_the_place_of_a_lost_one():
    assert run(OFFERED, lose=True).value == run(OFFERED).value


def test_a_crash_of_the_sampling_actor_loses_no_sample():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> list[list[int]]:
        sampler = await service.create_sampling_client(base_model=BASE_MODEL)
        calm = await many(sampler)
        found: list[list[list[int]]] = []

        async def sample() -> None:
            found.append(await many(sampler))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(sample)
            await trio.sleep(0.02)
            for _ in range(3):
                await crash(world, "runtime/sessions/session-0/clients/sampler-0")
        assert found == [calm]
        return calm

    train(story, settings=OFFERED)
