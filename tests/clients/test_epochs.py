"""A model that its server has lost is rebuilt: another one takes its place, and nobody notices but by the time."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import trio

from tests.clients.scenario import batch, train
from tinker_actors.clients import SamplingClient, ServiceClient, TrainingClient
from tinker_actors.clients.training.events import ModelRebuilt, ReplayDiffers
from tinker_actors.config import RecoveryPolicy
from tinker_actors.errors import ModelLost, RequestFailedError, StaleSampler
from tinker_actors.local import ServerSettings
from tinker_actors.local.owners import Owner
from tinker_actors.sessions import SessionLost, SessionRenewed, SessionState
from tinker_actors.testing.faults import CrashAt, Fault, Status
from tinker_actors.testing.operations import BASE_MODEL, PROMPT
from tinker_actors.testing.simulation import Outcome, World
from tinker_actors.types import AdamParams, SampleResponse, SamplingParams, SessionCancelled

POLICY = RecoveryPolicy()
STEP = AdamParams(learning_rate=1e-2)
PARAMS = SamplingParams(max_tokens=4, seed=3)


async def lose_session(world: World, client: TrainingClient) -> None:
    for session in world.service.sessions.alive():
        await world.service.end_session(session, "was ended by hand", SessionCancelled(), abandon=True)


async def lose_model(world: World, client: TrainingClient) -> None:
    world.service.models[client.model_id].close("it was lost", abandon=True)
    await trio.lowlevel.checkpoint()


async def lose_nothing(world: World, client: TrainingClient) -> None:
    await trio.lowlevel.checkpoint()


LOSSES = {"session": lose_session, "model": lose_model}


async def steps(client: TrainingClient, *seeds: int) -> list[float]:
    """A step for each seed, awaited; their losses."""
    losses: list[float] = []
    for seed in seeds:
        forward = await client.forward_backward(batch(seed, seed + 1, seed + 2))
        update = await client.optim_step(STEP)
        losses.append((await forward).metrics["loss:sum"])
        await update
    return losses


def rebuilt(outcome: Outcome[Any]) -> list[ModelRebuilt]:
    return [event for event in outcome.events if isinstance(event, ModelRebuilt)]


def run(story: Any, *faults: Fault, **options: Any) -> Outcome[Any]:
    return train(story, *faults, recovery=options.pop("recovery", POLICY), **options)


@pytest.mark.parametrize("lost", LOSSES)
@pytest.mark.parametrize("saved", [True, False], ids=["from a checkpoint", "from nothing"])
def test_a_lost_model_goes_on_bit_for_bit(lost: str, saved: bool):
    def story(lose: Any) -> Any:
        async def told(world: World, service: ServiceClient, client: TrainingClient) -> list[float]:
            losses = await steps(client, 1, 2)
            if saved:
                await (await client.save_state("middle"))
            losses += await steps(client, 3)
            waiting = [await client.forward_backward(batch(7)), await client.forward_backward(batch(8, 9))]
            await lose(world, client)
            update = await client.optim_step(STEP)
            losses += [(await future).metrics["loss:sum"] for future in waiting]
            await update
            return losses + await steps(client, 4)

        return told

    calm, broken = run(story(lose_nothing)), run(story(LOSSES[lost]))
    assert calm.value == broken.value
    assert calm.models[0].digest == broken.models[0].digest
    assert rebuilt(calm) == []
    (event,) = rebuilt(broken)
    assert event.replays == (2 if saved else 6)
    assert event.model_id == broken.models[0].model_id != calm.models[0].model_id
    assert broken.counters["models_lost"] == 1
    assert not [event for event in broken.events if isinstance(event, ReplayDiffers)]


@pytest.mark.parametrize("nth", range(2, 9))
@pytest.mark.parametrize("status", [404, 410])
def test_a_lost_promise_is_a_lost_model(nth: int, status: int):
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> list[float]:
        losses = await steps(client, 1)
        await (await client.save_state("first"))
        return losses + await steps(client, 2, 3)

    calm, broken = run(story), run(story, Status(path="/retrieve_future", nth=nth, status=status))
    assert calm.value == broken.value
    assert calm.models[0].digest == broken.models[0].digest
    assert len(rebuilt(broken)) == 1


def test_a_model_of_which_a_result_was_lost_is_freed():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> list[bool]:
        await steps(client, 1, 2)
        await trio.sleep(10.0)
        return [model.closed is None for model in world.service.models.values()]

    assert run(story, Status(path="/retrieve_future", nth=3, status=410)).value == [False, True]


def test_a_lost_session_is_renewed_and_said_to_be():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> tuple[str, str]:
        before = service.session_id
        await steps(client, 1)
        await lose_session(world, client)
        await trio.sleep(15.0)
        assert service.state is SessionState.ACTIVE
        assert await service.get_server_capabilities()
        other = await service.create_lora_training_client(BASE_MODEL, rank=2)
        await steps(other, 1)
        await steps(client, 2)
        return before, service.session_id

    outcome = run(story)
    before, after = outcome.value
    assert before != after
    lost = [event for event in outcome.events if isinstance(event, SessionLost | SessionRenewed)]
    assert [(type(event), event.session_id) for event in lost] == [(SessionLost, before), (SessionRenewed, after)]


def test_a_session_that_can_not_be_renewed_is_lost():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> None:
        sampler = await service.create_sampling_client(base_model=BASE_MODEL)
        await lose_session(world, client)
        with pytest.raises(ModelLost):
            await (await client.optim_step(STEP))
        assert service.state is SessionState.LOST
        with pytest.raises(ModelLost):
            await sampler.sample(PROMPT, 1, PARAMS)
        with pytest.raises(ModelLost):
            await service.create_lora_training_client(BASE_MODEL, rank=2)

    run(story, Status(path="/create_session", nth=2, status=403, times=100))


def test_what_is_awaited_says_that_its_model_is_being_rebuilt():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> tuple[str, ...]:
        await steps(client, 1, 2)
        await lose_model(world, client)
        await client.forward_backward(batch(5))
        seen: set[str] = set()
        while world.runtime.pending():
            seen.update(f"{row.kind}: {row.reason}" for row in world.runtime.pending())
            await trio.sleep(0.01)
        return tuple(sorted(seen))

    seen = run(story).value
    assert any(line.startswith("forward_backward: its model is being rebuilt: ") for line in seen), seen
    assert any(line.startswith("rebuild: a new model is being created, since ") for line in seen), seen
    for number in (1, 4):
        assert any(line.startswith(f"rebuild: replaying {number} of 4, since ") for line in seen), seen


def test_a_finished_save_is_not_repeated_and_an_unfinished_one_runs_under_its_name():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> list[str]:
        await steps(client, 1)
        first = (await (await client.save_state("first"))).path
        await steps(client, 2)
        second = await client.save_state("second")
        await lose_model(world, client)
        await steps(client, 3)
        return [first, (await second).path, client.model_id]

    first, second, model_id = run(story).value
    assert first.endswith("weights/first")
    assert second == f"tinker://{model_id}/weights/second"
    assert first != f"tinker://{model_id}/weights/first"


def test_a_checkpoint_that_is_gone_is_passed_over():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> None:
        await steps(client, 1)
        await (await client.save_state("first"))
        await steps(client, 2)
        gone = (await (await client.save_state("second"))).path
        await steps(client, 3)
        world.service.catalog.remove(Owner("somebody"), gone)
        await lose_model(world, client)
        await steps(client, 4)

    async def calm(world: World, service: ServiceClient, client: TrainingClient) -> None:
        await steps(client, 1, 2, 3, 4)

    outcome = run(story)
    (event,) = rebuilt(outcome)
    assert event.replays == 4
    assert event.model_id.endswith(":train:1"), "no model was made in vain"
    assert outcome.models[0].digest == run(calm).models[0].digest


def test_an_operation_that_has_failed_is_left_out():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> None:
        await steps(client, 1)
        odd = await client.load_state("tinker://sess-0:train:9/weights/none")
        with pytest.raises(Exception, match="checkpoint"):
            await odd
        await steps(client, 2)
        await lose_model(world, client)
        await steps(client, 3)

    outcome = run(story)
    assert rebuilt(outcome)[0].replays == 4


def test_a_load_is_a_state_to_go_on_from():
    def story(lose: Any) -> Any:
        async def told(world: World, service: ServiceClient, client: TrainingClient) -> None:
            await steps(client, 1)
            path = (await (await client.save_state("first"))).path
            await steps(client, 2)
            await (await client.forward_backward(batch(9)))  # dropped by the load
            await (await client.load_state(path))
            await steps(client, 3)
            await lose(world, client)
            await steps(client, 4)

        return told

    calm, broken = run(story(lose_nothing)), run(story(lose_session))
    assert calm.models[0].digest == broken.models[0].digest
    assert rebuilt(broken)[0].replays == 2


def test_gradients_that_wait_for_their_step_are_gathered_again():
    def story(lose: Any) -> Any:
        async def told(world: World, service: ServiceClient, client: TrainingClient) -> None:
            await steps(client, 1)
            await (await client.forward_backward(batch(5)))
            await (await client.save_state("between"))
            await (await client.forward_backward(batch(6)))
            await lose(world, client)
            await (await client.optim_step(STEP))

        return told

    calm, broken = run(story(lose_nothing)), run(story(lose_session))
    assert calm.models[0].digest == broken.models[0].digest
    assert rebuilt(broken)[0].replays == 2


async def sample(sampler: SamplingClient) -> SampleResponse:
    return await sampler.sample(PROMPT, 1, PARAMS)


def tokens(response: SampleResponse) -> tuple[list[int], list[float]]:
    (sequence,) = response.sequences
    assert sequence.logprobs is not None
    return sequence.tokens.tolist(), sequence.logprobs.tolist()


def test_samplers_of_a_lost_session_sample_on_from_the_same_weights():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> list[Any]:
        base = await service.create_sampling_client(base_model=BASE_MODEL)
        await steps(client, 1)
        path = (await (await client.save_weights_for_sampler("named"))).path
        assert path is not None
        named = await service.create_sampling_client(model_path=path)
        await steps(client, 2)
        ephemeral = await client.save_weights_and_get_sampling_client()
        await steps(client, 3)
        samplers = (base, named, ephemeral)
        before = [tokens(await sample(sampler)) for sampler in samplers]
        ids = {sampler.sampling_session_id for sampler in samplers}
        await lose_session(world, client)
        after = [tokens(await sample(sampler)) for sampler in samplers]
        assert ids.isdisjoint(sampler.sampling_session_id for sampler in samplers)
        await steps(client, 4)
        return [before, after, [tokens(await sample(sampler)) for sampler in samplers]]

    before, after, later = run(story).value
    assert before == after == later
    assert len({str(one) for one in before}) == 3


def test_an_ephemeral_sampler_of_an_earlier_state_is_stale():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> None:
        await steps(client, 1)
        early = await client.save_weights_and_get_sampling_client()
        await steps(client, 2)
        await (await client.save_state("later"))
        await steps(client, 3)
        await lose_session(world, client)
        with pytest.raises(StaleSampler, match="weights/later"):
            await sample(early)
        await steps(client, 4)

    run(story)


def test_an_ephemeral_sampler_whose_client_was_closed_is_stale_when_its_session_is_lost():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> None:
        other = await service.create_lora_training_client(BASE_MODEL, rank=2)
        sampler = await other.save_weights_and_get_sampling_client()
        await other.aclose()
        await sample(sampler)
        await lose_session(world, client)
        with pytest.raises(StaleSampler, match="closed"):
            await sample(sampler)

    run(story)


def test_a_model_that_is_lost_again_and_again_is_given_up():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> float:
        await steps(client, 1)
        began = trio.current_time()
        with pytest.raises(ModelLost):
            await (await client.forward_backward(batch(5)))
        return trio.current_time() - began

    gone = Status(path="/forward_backward", nth=2, status=410, times=1000)
    outcome = run(story, gone, recovery=RecoveryPolicy(max_attempts=3, backoff_first=10.0, backoff_longest=100.0))
    assert len(rebuilt(outcome)) == 3
    assert 20.0 <= outcome.value <= 60.0  # 0, 10 and 20 s, jittered


@pytest.mark.parametrize("point", ["training.creating", "training.restoring", "training.polling", "training.sent"])
@pytest.mark.parametrize("nth", [2, 3, 6, 9])
def test_a_crash_while_it_is_rebuilt_changes_nothing(point: str, nth: int):
    def story(lose: Any) -> Any:
        async def told(world: World, service: ServiceClient, client: TrainingClient) -> list[float]:
            await steps(client, 1)
            await (await client.save_state("first"))
            losses = await steps(client, 2)
            await lose(world, client)
            return losses + await steps(client, 3)

        return told

    calm, broken = run(story(lose_nothing)), run(story(lose_session), CrashAt(point=point, nth=nth))
    assert calm.value == broken.value
    assert calm.models[0].digest == broken.models[0].digest


def test_a_server_that_is_not_deterministic_is_told_of(caplog: pytest.LogCaptureFixture):
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> None:
        await steps(client, 1)
        history = client._model.ledger.history
        assert history is not None
        history.since(0)[0].outcome = 1
        await lose_model(world, client)
        await steps(client, 2)

    caplog.set_level(logging.WARNING)
    outcome = run(story)
    assert [event.op_no for event in outcome.events if isinstance(event, ReplayDiffers)] == [1]
    assert outcome.counters["replays_differing"] == 1
    assert "not deterministic" in caplog.text


def test_without_what_was_done_since_no_model_is_rebuilt(caplog: pytest.LogCaptureFixture):
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> None:
        await steps(client, 1, 2, 3)
        await lose_model(world, client)
        with pytest.raises(ModelLost, match="replay_bytes"):
            await steps(client, 4)

    run(story, recovery=RecoveryPolicy(replay_bytes=600, spill_bytes=0, when_full="forget", checkpoints=None))
    assert caplog.text.count("Save its state more often") == 1


def test_some_chunks_refused_and_some_not_is_a_rebuild_without_that_operation():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> None:
        await steps(client, 1)
        spoilt = await client.forward_backward(batch(1, 2, 3))
        with pytest.raises(Exception, match="400"):
            await spoilt
        await steps(client, 2)

    async def calm(world: World, service: ServiceClient, client: TrainingClient) -> None:
        await steps(client, 1, 2)

    settings = ServerSettings(base_model=BASE_MODEL, fwdbwd_max_chunk_len=2, parallel_fwdbwd_chunks=False)
    outcome = run(story, Status(path="/forward_backward", nth=4, status=400), settings=settings)
    assert len(rebuilt(outcome)) == 1
    assert outcome.models[0].digest == run(calm, settings=settings).models[0].digest


def test_without_a_policy_the_loss_is_an_error():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> None:
        await steps(client, 1)
        await lose_model(world, client)
        with pytest.raises((ModelLost, RequestFailedError)):
            await steps(client, 2)

    assert rebuilt(run(story, recovery=None)) == []
