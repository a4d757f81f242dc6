"""The sampling client: whose weights, how many at once, and what a lost reply changes (nothing)."""

from __future__ import annotations

import pytest
import trio

from tests.clients.scenario import batch, train
from tinker_actors.clients import SamplingClient, ServiceClient, TrainingClient
from tinker_actors.errors import BadRequestError, ClosedError, InvalidInput, OutageError, TinkerError
from tinker_actors.local import ServerSettings
from tinker_actors.testing.faults import CrashAt, Delay, DropAfter, DropBefore, Duplicate, Status, Truncate
from tinker_actors.testing.operations import BASE_MODEL, PROMPT, plain
from tinker_actors.testing.simulation import World
from tinker_actors.types import AdamParams, ModelInput, SamplingParams

PARAMS = SamplingParams(max_tokens=4, seed=5)


async def base_sampler(service: ServiceClient) -> SamplingClient:
    return await service.create_sampling_client(base_model=BASE_MODEL)


async def sample_once(world: World, service: ServiceClient, client: TrainingClient):
    sampler = await base_sampler(service)
    return plain(await sampler.sample(PROMPT, 1, PARAMS))


@pytest.mark.parametrize(
    "fault",
    [
        DropBefore(path="/asample", times=2),
        DropAfter(path="/asample", times=2),
        Duplicate(path="/asample"),
        Status(path="/asample", status=429, times=3, retry_after=2.0),
        Status(path="/asample", status=503, after=True),
        Truncate(path="/asample", keep=3),
        DropAfter(path="/retrieve_future", nth=2, times=2),
        Truncate(path="/retrieve_future", nth=2, keep=3),
        DropAfter(path="/create_sampling_session", times=2),
    ],
    ids=repr,
)
def test_a_fault_changes_nothing_of_a_sample(fault):
    assert train(sample_once, fault).value == train(sample_once).value


def test_an_expired_promise_is_sampled_anew_with_the_same_seed():
    outcome = train(sample_once, Status(path="/retrieve_future", nth=2, status=410))

    assert outcome.value == train(sample_once).value
    assert outcome.counters["samples_repeated"] == 1


def test_ephemeral_and_named_weights_are_those_of_their_moment():
    async def story(world: World, service: ServiceClient, client: TrainingClient):
        before = await client.save_weights_and_get_sampling_client()
        await client.forward_backward(batch(1, 2, 3))
        await client.optim_step(AdamParams(learning_rate=1.0))
        saved = await (await client.save_weights_for_sampler("later"))
        assert saved.path is not None
        after = await service.create_sampling_client(model_path=saved.path)
        again = await client.save_weights_and_get_sampling_client("named")
        base = await base_sampler(service)
        values = {}
        for name, sampler in (("before", before), ("after", after), ("again", again), ("base", base)):
            values[name] = await sampler.compute_logprobs(ModelInput.from_ints([3, 1, 4, 1, 5]))
        assert values["before"] == values["base"]  # a fresh adapter changes nothing
        assert values["after"] == values["again"] != values["base"]
        assert values["base"][0] is None
        assert all(value is not None and value < 0 for value in values["base"][1:])
        info = await after.get_sampler_info()
        assert info.model_path == saved.path

    train(story)


def test_a_sample_without_a_seed_is_sent_with_one():
    async def story(world: World, service: ServiceClient, client: TrainingClient):
        sampler = await base_sampler(service)
        params = SamplingParams(max_tokens=8)
        return [plain(await sampler.sample(PROMPT, 1, params)) for _ in range(3)]

    one, other = train(story), train(story, Status(path="/retrieve_future", nth=2, status=410, times=2))
    assert len(set(one.value)) == 3  # each its own
    assert one.value == other.value  # and the same again when its promise expires


def test_many_samples_at_once_each_get_their_own():
    async def story(world: World, service: ServiceClient, client: TrainingClient):
        sampler = await base_sampler(service)
        results: dict[int, object] = {}

        async def one(seed: int) -> None:
            response = await sampler.sample(PROMPT, 2, SamplingParams(max_tokens=4, seed=seed))
            assert len({sequence.sequence_id for sequence in response.sequences}) == 2
            results[seed] = [sequence.tokens.tolist() for sequence in response.sequences]

        async with trio.open_nursery() as nursery:
            for seed in range(40):
                nursery.start_soon(one, seed)
        for seed in range(0, 40, 7):
            response = await sampler.sample(PROMPT, 2, SamplingParams(max_tokens=4, seed=seed))
            assert results[seed] == [sequence.tokens.tolist() for sequence in response.sequences]
        assert world.runtime.pending() == ()

    train(story, settings=ServerSettings(base_model=BASE_MODEL))


def test_a_cancelled_sample_leaves_nothing_behind():
    async def story(world: World, service: ServiceClient, client: TrainingClient):
        sampler = await base_sampler(service)
        for moment in (0.0, 0.001, 0.01, 0.03):
            with trio.move_on_after(moment):
                await sampler.sample(PROMPT, 1, PARAMS)
            # at most the server is being told, in a task
            assert {entry.name for entry in world.runtime.pending()} <= {"cancel samples"}

    train(story)


def test_bad_arguments_of_samples():
    async def story(world: World, service: ServiceClient, client: TrainingClient):
        sampler = await base_sampler(service)
        sends = world.network.statistics().requests
        for call, field in (
            (lambda: sampler.sample(PROMPT, 0), "num_samples"),
            (lambda: sampler.sample(ModelInput.empty()), "prompt"),
            (lambda: sampler.sample(PROMPT, topk_prompt_logprobs=-1), "topk"),
            (service.create_sampling_client, "exactly one"),
        ):
            with pytest.raises(InvalidInput, match=field):
                await call()
        assert world.network.statistics().requests - sends <= 1  # a heartbeat may pass
        with pytest.raises(TinkerError, match="vocabulary"):
            await sampler.sample(ModelInput.from_ints([31, 32]), 1, PARAMS)
        with pytest.raises(BadRequestError, match=BASE_MODEL):
            await service.create_sampling_client(base_model="no/such-model")
        await sampler.sample(PROMPT, 1, PARAMS)
        await sampler.aclose()
        with pytest.raises(ClosedError):
            await sampler.sample(PROMPT, 1, PARAMS)

    train(story)


def test_samples_end_after_the_outage_bound_with_the_list():
    async def story(world: World, service: ServiceClient, client: TrainingClient):
        sampler = await base_sampler(service)
        world.network.partition()
        with pytest.raises(OutageError, match="Waiting") as gone:
            await sampler.sample(PROMPT, 1, PARAMS)
        assert any("sample" in line for line in gone.value.pending)
        world.network.heal()

    train(story, outage_bound=100.0)


def test_a_crash_in_the_control_plane_leaves_samples_alone():
    outcome = train(sample_once, CrashAt(point="session.heartbeat", nth=1))
    assert outcome.value == train(sample_once).value


def test_a_pause_that_the_server_asks_for_is_kept_by_all_who_use_the_key():
    async def story(world: World, service: ServiceClient, client: TrainingClient):
        samplers = [await base_sampler(service) for _ in range(2)]
        samplers += [await base_sampler(await world.runtime.create_service_client())]
        start = trio.current_time()
        ends: list[float] = []

        async def one(sampler: SamplingClient) -> None:
            await sampler.sample(PROMPT, 1, PARAMS)
            ends.append(trio.current_time() - start)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(one, samplers[0])
            await trio.sleep(1.0)
            waiting = [str(row) for row in world.runtime.pending()]
            for sampler in samplers[1:]:
                nursery.start_soon(one, sampler)
            await trio.sleep(1.0)
            assert any("asked for a pause" in str(row) for row in world.runtime.pending())
        assert any("after HTTP 429" in row for row in waiting)
        return ends

    ends = train(story, Status(path="/asample", status=429, retry_after=40.0)).value
    assert len(ends) == 3
    assert all(40.0 <= end <= 42.5 for end in ends)


def test_another_key_does_not_keep_the_pause_of_the_old_one():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> float:
        sampler = await base_sampler(service)
        with trio.move_on_after(1.0):
            await sampler.sample(PROMPT, 1, PARAMS)
        world.runtime.renew_api_key("tml-another")
        start = trio.current_time()
        await sampler.sample(PROMPT, 1, PARAMS)
        return trio.current_time() - start

    assert train(story, Status(path="/asample", status=429, retry_after=400.0)).value < 10.0


def test_a_key_that_is_renewed_while_a_session_is_made_is_that_sessions_key():
    async def story(world: World, service: ServiceClient, client: TrainingClient):
        made: list[ServiceClient] = []

        async def make() -> None:
            made.append(await world.runtime.create_service_client())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(make)
            await trio.sleep(1.0)
            assert not made
            world.runtime.renew_api_key("tml-another")
        for session in (service._session, made[0]._session):
            assert session.limits.sampling.limiter is world.runtime._limiter

    train(story, Delay(path="/create_session", nth=2, seconds=5.0))


def test_a_large_result_is_withheld_and_fetched_whole():
    async def story(world: World, service: ServiceClient, client: TrainingClient):
        sampler = await base_sampler(service)
        return plain(await sampler.sample(PROMPT, 1, PARAMS))

    small = train(story, settings=ServerSettings(base_model=BASE_MODEL, metadata_only_above=1))
    assert small.value == train(story).value
    assert small.counters["polls"] > train(story).counters["polls"]
