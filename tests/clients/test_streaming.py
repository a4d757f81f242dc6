"""Samples that arrive token by token."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import pytest
import trio
import trio.testing

from tests.clients.scenario import train
from tinker_actors.clients import SamplingClient, ServiceClient, TrainingClient
from tinker_actors.errors import (
    APIConnectionError,
    BadRequestError,
    ClosedError,
    InvalidInput,
    NotStreamed,
    RequestFailedError,
)
from tinker_actors.local import ServerSettings
from tinker_actors.testing.faults import DropBefore, Status, Truncate
from tinker_actors.testing.operations import BASE_MODEL, PROMPT
from tinker_actors.testing.simulation import Outcome, World
from tinker_actors.types import SampleStreamChunk, SamplingParams, SamplingSampleBillingEvent

T = TypeVar("T")
LONG = SamplingParams(max_tokens=60, seed=3)
COUNT = 54  # tokens of it; then it stops by itself


def stream(
    story: Callable[[World, SamplingClient], Awaitable[T]], *faults: Any, settings: ServerSettings | None = None
) -> Outcome[T]:
    async def scenario(world: World, service: ServiceClient, client: TrainingClient) -> T:
        return await story(world, await service.create_sampling_client(base_model=BASE_MODEL))

    return train(scenario, *faults, settings=settings)


async def all_of(client: SamplingClient, params: SamplingParams = LONG, **more: Any) -> list[SampleStreamChunk]:
    async with client.sample_stream(PROMPT, params, **more) as tokens:
        return [chunk async for chunk in tokens]


def test_the_first_token_is_there_before_the_response_ends_and_all_are_those_of_the_sample():
    async def story(world: World, client: SamplingClient) -> None:
        whole = await client.sample(PROMPT, 1, LONG)
        async with client.sample_stream(PROMPT, LONG) as tokens:
            chunks = [await anext(tokens)]
            assert len(world.service.streams) == 1  # the server is at it
            chunks += [chunk async for chunk in tokens]
        assert not tokens.fallback
        assert [chunk.token_id for chunk in chunks] == whole.sequences[0].tokens.tolist()
        assert [chunk.done for chunk in chunks] == [False] * (COUNT - 1) + [True]
        assert all(chunk.logprob is not None for chunk in chunks)
        async with client.sample_stream(PROMPT, LONG) as tokens:
            assert await tokens.text() == "".join(chunk.token or "" for chunk in chunks)

    outcome = stream(story)
    assert outcome.counters["samples_done"] == 3
    assert outcome.counters["tokens_sampled"] == 3 * COUNT


@pytest.mark.parametrize("how", ["left", "cancelled"])
def test_a_stream_that_is_left_early_is_noticed_by_the_server(how: str):
    async def story(world: World, client: SamplingClient) -> int:
        with trio.CancelScope() as scope:
            async with client.sample_stream(PROMPT, LONG) as tokens:
                for _ in range(3):
                    assert not (await anext(tokens)).done
                if how == "cancelled":
                    scope.cancel()
                    await trio.lowlevel.checkpoint()
        await trio.sleep(1)
        assert world.runtime.pending() == ()
        rest = await world.runtime.create_rest_client()
        usage = await rest.get_billing_usage("2000-01-01", "2000-01-02")
        await client.sample(PROMPT, 1, LONG)
        kinds = [event.event_info for event in usage.data]
        return sum(kind.token_count for kind in kinds if isinstance(kind, SamplingSampleBillingEvent))

    outcome = stream(story)
    assert 3 <= outcome.value < COUNT
    assert outcome.counters["samples_done"] == 1


def test_streams_take_their_places_among_the_samples_in_flight():
    async def story(world: World, client: SamplingClient) -> int:
        open_now, most = 0, 0

        async def one(seed: int) -> None:
            nonlocal open_now, most
            async with client.sample_stream(PROMPT, SamplingParams(max_tokens=20, seed=seed)) as tokens:
                open_now += 1
                most = max(most, open_now)
                async for _ in tokens:
                    await trio.sleep(0.1)
                open_now -= 1

        async with trio.open_nursery() as nursery:
            for seed in range(8):
                nursery.start_soon(one, seed)
        return most

    assert stream(story, settings=ServerSettings(base_model=BASE_MODEL, sample_max_concurrent_requests=2)).value == 2


def test_what_may_pass_is_asked_again_before_the_first_token():
    faults = [DropBefore(path="/stream_sample"), Status(path="/stream_sample", nth=2, status=429, retry_after=3.0)]

    async def story(world: World, client: SamplingClient) -> float:
        began = trio.current_time()
        assert len(await all_of(client)) == COUNT
        return trio.current_time() - began

    outcome = stream(story, *faults, Status(path="/stream_sample", nth=3, status=503))
    assert len(outcome.fired) == 3
    assert outcome.value > 3.0


def test_a_stream_that_breaks_off_is_an_error_and_counts_as_no_sample():
    async def story(world: World, client: SamplingClient) -> None:
        with pytest.raises(APIConnectionError):
            await all_of(client)
        assert world.runtime.pending() == ()
        assert len(await all_of(client)) == COUNT

    assert stream(story, Truncate(path="/stream_sample", keep=300)).counters["samples_done"] == 1


@pytest.mark.parametrize("status", [404, 405, 501])
def test_a_server_that_can_not_stream_is_told_of_or_gives_the_finished_sample_in_pieces(status: int):
    async def story(world: World, client: SamplingClient) -> None:
        began = trio.current_time()
        with pytest.raises(NotStreamed, match="fallback=True"):
            await all_of(client)
        assert trio.current_time() - began < 1.0
        whole = await client.sample(PROMPT, 1, LONG)
        async with client.sample_stream(PROMPT, LONG, fallback=True) as tokens:
            assert tokens.fallback
            chunks = [chunk async for chunk in tokens]
        assert [chunk.token_id for chunk in chunks] == whole.sequences[0].tokens.tolist()
        assert (chunks[-1].finish_reason, chunks[-1].total_tokens) == (str(whole.sequences[0].stop_reason), COUNT)
        assert not any(chunk.done for chunk in chunks[:-1])

    outcome = stream(story, Status(path="/stream_sample", status=status, times=1000))
    assert outcome.counters["samples_done"] == 2


def test_what_the_server_refuses_comes_as_it_is():
    async def story(world: World, client: SamplingClient) -> None:
        with pytest.raises(BadRequestError):
            await all_of(client)
        await client.aclose()
        with pytest.raises(ClosedError):
            client.sample_stream(PROMPT)

    stream(story, Status(path="/stream_sample", status=400, times=5))


def test_a_server_that_gives_up_on_the_way_is_an_error():
    async def story(world: World, client: SamplingClient) -> None:
        found = world.service.samplers.find(client.sampling_session_id)
        assert found is not None
        with pytest.raises(RequestFailedError, match="is over"):
            async with client.sample_stream(PROMPT, LONG) as tokens:
                found.over = True
                async for _ in tokens:
                    pass

    stream(story)


BAD: dict[str, Callable[[SamplingClient], Any]] = {
    "prompt": lambda client: client.sample_stream([1]),  # type: ignore[arg-type]
    "sampling_params": lambda client: client.sample_stream(PROMPT, 3),  # type: ignore[arg-type]
    "fallback": lambda client: client.sample_stream(PROMPT, fallback="yes"),  # type: ignore[arg-type]
    "timeout": lambda client: client.sample_stream(PROMPT, timeout=0.0),
    "timeout that is no number": lambda client: client.sample_stream(PROMPT, timeout=None),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_value_is_refused_at_the_call(what: str):
    async def story(world: World, client: SamplingClient) -> None:
        with pytest.raises(InvalidInput, match=what.split(maxsplit=1)[0]):
            BAD[what](client)

    stream(story)
