"""Samples that nobody waits for any more are taken back at servers that offer that, and nobody waits for it."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec
import pytest
import trio

from tests.clients.scenario import train
from tinker_actors.clients import SamplingClient, ServiceClient, TrainingClient
from tinker_actors.errors import RequestFailedError
from tinker_actors.local import ServerSettings
from tinker_actors.testing.faults import Delay, DropAfter, DropBefore, Fault, NetworkFault, Status
from tinker_actors.testing.operations import BASE_MODEL, PROMPT
from tinker_actors.testing.simulation import Outcome, World
from tinker_actors.types import SampleResponse, SamplingParams

SLOW = ServerSettings(base_model=BASE_MODEL, max_turns_per_second=0.1)
"""One batch of samples in ten seconds."""
COUNT = 150
CONFIG, CANCEL = "/client/dynamic_config", "/cancel_future"
COUNTERS = tuple([Delay(path=path, seconds=0.0, times=100_000) for path in (CONFIG, CANCEL)])
PARAMS = SamplingParams(max_tokens=3, seed=1)

GiveUp = Callable[[World, SamplingClient], Awaitable[None]]


def computed(world: World) -> int:
    """How many samples the server has computed."""
    futures = world.service.futures._futures.values()
    return sum(isinstance(future.result, SampleResponse) for future in futures)


def asked(outcome: Outcome[Any], path: str) -> int:
    """How often the server was asked for ``path``, which faults without effect count, too."""
    return sum(isinstance(fired.fault, NetworkFault) and fired.fault.path == path for fired in outcome.fired)


async def by_its_cancel_scope(world: World, sampler: SamplingClient) -> None:
    began = trio.current_time()
    with trio.move_on_after(5.0):
        async with trio.open_nursery() as nursery:
            for _ in range(COUNT):
                nursery.start_soon(sampler.sample, PROMPT, 1, PARAMS)
    assert trio.current_time() - began == 5.0, "nobody waits for the server to hear of it"


async def by_its_future(world: World, sampler: SamplingClient) -> None:
    futures = [sampler.sample_async(PROMPT, 1, PARAMS) for _ in range(COUNT)]
    await trio.sleep(5.0)
    assert [future.cancel() for future in futures] == [True] * COUNT


async def after_its_client_was_closed(world: World, sampler: SamplingClient) -> None:
    with trio.move_on_after(5.0):
        async with trio.open_nursery() as nursery:
            for _ in range(COUNT):
                nursery.start_soon(sampler.sample, PROMPT, 1, PARAMS)
            await trio.sleep(3.0)
            await sampler.aclose()


def give_up(how: GiveUp, *faults: Fault, settings: ServerSettings = SLOW) -> Outcome[int]:
    """How many samples are computed when all are given up after five seconds."""

    async def story(world: World, service: ServiceClient, client: TrainingClient) -> int:
        sampler = await service.create_sampling_client(base_model=BASE_MODEL)
        await how(world, sampler)
        await trio.sleep(100.0)
        assert not world.runtime.pending()
        return computed(world)

    return train(story, *faults, *COUNTERS, settings=settings)


WAYS: Sequence[GiveUp] = (by_its_cancel_scope, by_its_future, after_its_client_was_closed)


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("how", WAYS, ids=lambda how: how.__name__)
def test_a_sample_that_is_given_up_is_not_computed(how: GiveUp, together: bool):
    outcome = give_up(how, settings=msgspec.structs.replace(SLOW, sample_use_retrieve_futures=together))
    assert outcome.value < COUNT / 2
    assert outcome.counters["samples_cancelled"] == COUNT
    assert asked(outcome, CONFIG) == 1, "one question for all of them"


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        (msgspec.structs.replace(SLOW, sample_cancel_enabled=False), None),
        *((SLOW, Status(path=CONFIG, status=status, times=1000)) for status in (400, 403, 404, 405, 500)),
    ],
    ids=("off", "400", "403", "404", "405", "500"),
)
def test_a_server_that_does_not_offer_it_is_not_asked(settings: ServerSettings, fault: Fault | None):
    outcome = give_up(by_its_cancel_scope, *(() if fault is None else (fault,)), settings=settings)
    assert outcome.value == COUNT
    assert asked(outcome, CANCEL) == 0
    assert asked(outcome, CONFIG) == 1 or (isinstance(fault, Status) and fault.status >= 500)


@pytest.mark.parametrize(
    "fault",
    [
        *(Status(path=CANCEL, status=status, times=1000) for status in (400, 401, 403, 404, 429, 503)),
        Delay(path=CANCEL, seconds=1e6, times=1000),
        DropBefore(path=CANCEL, times=1000),
    ],
    ids=repr,
)
def test_what_the_server_makes_of_it_disturbs_nobody(fault: Fault, caplog: pytest.LogCaptureFixture):
    outcome = give_up(by_its_cancel_scope, fault)  # which waits until nothing is pending
    assert outcome.value == COUNT
    assert "samples_cancelled" not in outcome.counters
    assert not [record for record in caplog.records if record.levelno > logging.INFO and "cancel" in record.message]


def test_a_repeated_try_gets_through():
    outcome = give_up(by_its_cancel_scope, Status(path=CANCEL, status=503, times=3), DropAfter(path=CANCEL, nth=5))
    assert outcome.counters["samples_cancelled"] == COUNT


def test_nothing_is_cancelled_of_what_has_come_or_failed():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> None:
        sampler = await service.create_sampling_client(base_model=BASE_MODEL)
        with trio.move_on_after(1000.0):
            await sampler.sample(PROMPT, 1, PARAMS)
            failing = sampler.sample_async(PROMPT, 1, PARAMS)
            await trio.sleep(1.0)
            for future in world.service.futures._futures.values():
                if future.cancel is not None:
                    future.cancel()
            with pytest.raises(RequestFailedError):
                await failing
        await trio.sleep(10.0)

    outcome = train(story, *COUNTERS, settings=SLOW)
    assert (asked(outcome, CONFIG), asked(outcome, CANCEL)) == (0, 0)


def test_what_the_server_said_is_asked_again_once_it_is_old():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> None:
        sampler = await service.create_sampling_client(base_model=BASE_MODEL)
        for pause in (10.0, 400.0, 10.0):
            await sampler.sample(PROMPT, 1, PARAMS)
            with trio.move_on_after(0.5):
                await sampler.sample(PROMPT, 1, PARAMS)
            await trio.sleep(pause)

    outcome = train(story, *COUNTERS, settings=SLOW)
    assert outcome.counters["samples_cancelled"] == 3
    assert asked(outcome, CONFIG) == 2
