"""What is taken back, created or refused while a model or a session is being made good."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from tests.clients.scenario import KEYS, batch
from tests.clients.test_epochs import (
    LOSSES,
    PARAMS,
    STEP,
    lose_model,
    lose_session,
    rebuilt,
    run,
    sample,
    steps,
    tokens,
)
from tinker_actors.clients import ServiceClient, TrainingClient
from tinker_actors.errors import APIStatusError, OperationCancelled
from tinker_actors.local import ServerSettings
from tinker_actors.testing.faults import CorruptModels, Delay, PauseQueue, Status
from tinker_actors.testing.operations import BASE_MODEL, PROMPT
from tinker_actors.testing.simulation import World
from tinker_actors.types import SampleResponse


def test_a_state_that_shows_what_was_taken_back_is_none_to_go_on_from():
    def story(*, taken_back: bool) -> Any:
        async def told(world: World, service: ServiceClient, client: TrainingClient) -> None:
            await steps(client, 1)
            await (await client.forward_backward(batch(5)))
            update = await client.optim_step(STEP) if taken_back else None
            await (await client.save_state("saved"))
            if update is not None:
                assert not update.done()
                await lose_session(world, client)
                while client._model.ledger.lost is None:  # noqa: ASYNC110  # it has no event
                    await trio.sleep(0.01)
                assert update.cancel()
                with pytest.raises(OperationCancelled):
                    await update
            await steps(client, 2)

        return told

    calm = run(story(taken_back=False))
    broken = run(story(taken_back=True), Delay(path="/retrieve_future", nth=5, seconds=40.0, reply=True))
    assert calm.models[0].digest == broken.models[0].digest


def test_a_state_that_shows_half_an_operation_is_none_to_go_on_from():
    def story(*, spoilt: bool) -> Any:
        async def told(world: World, service: ServiceClient, client: TrainingClient) -> None:
            await steps(client, 1)
            half = await client.forward_backward(batch(5, 6, 7)) if spoilt else None
            await (await client.optim_step(STEP))
            await (await client.save_state("saved"))
            if half is not None:
                assert not half.done()
                with pytest.raises(Exception, match="400"):
                    await half
            await steps(client, 2)

        return told

    settings = ServerSettings(base_model=BASE_MODEL, fwdbwd_max_chunk_len=2)
    odd = [Status(path="/retrieve_future", nth=nth, status=400) for nth in (5, 9, 10, 11)]
    broken = run(story(spoilt=True), *odd, settings=settings)
    assert len(rebuilt(broken)) == 1
    assert broken.models[0].digest == run(story(spoilt=False), settings=settings).models[0].digest


def test_a_client_can_be_created_whenever_its_session_is_lost():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> None:
        for number in range(30):
            async with trio.open_nursery() as nursery:

                async def lose(after: float = number * 0.004) -> None:
                    await trio.sleep(after)
                    await lose_session(world, client)

                nursery.start_soon(lose)
                other = await service.create_lora_training_client(BASE_MODEL, rank=2)
                await steps(other, 1)
                await other.aclose()
            await trio.sleep(20.0)

    run(story)


def test_an_ephemeral_save_whose_caller_has_gone_is_no_failure_when_its_model_is_rebuilt():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> None:
        await steps(client, 1)
        with trio.move_on_after(1.0) as scope:
            await client.save_weights_and_get_sampling_client()
        assert scope.cancelled_caught
        await world.server.suffer(CorruptModels(path=""))
        await steps(client, 2)

    outcome = run(story, Delay(path="/retrieve_future", nth=4, seconds=40.0, reply=True))
    kinds = [(operation.seq_id, operation.kind) for operation in outcome.models[0].applied]
    assert (3, "save_weights_for_sampler") in kinds
    assert [seq_id for seq_id, _ in kinds] == list(range(1, len(kinds) + 1))


@pytest.mark.parametrize("status", [404, 410])
def test_a_client_whose_creation_was_promised_and_the_promise_lost_is_created_anew(status: int):
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> None:
        other = await service.create_lora_training_client(BASE_MODEL, rank=2)
        await steps(other, 1)

    def creation(times: int) -> Status:
        return Status(path="/retrieve_future", nth=2, times=times, status=status)

    run(story, creation(3))
    with pytest.raises(APIStatusError, match=str(status)):
        run(story, creation(100))


@pytest.mark.parametrize(
    ("path", "nth"),
    [("/create_session", 2), ("/client/config", 2), ("/weights_info", 1), ("/create_sampling_session", 2)],
)
def test_a_refused_credential_only_delays_what_is_being_made_good(path: str, nth: int):
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> None:
        saved = await (await client.save_weights_for_sampler("named"))
        assert saved.path is not None
        await (await client.save_state("saved"))
        sampler = await service.create_sampling_client(model_path=saved.path)
        await steps(client, 1)
        await lose_session(world, client)
        waiting = await client.forward_backward(batch(4))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sampler.sample, PROMPT, 1, PARAMS)
            await trio.sleep(100.0)
            assert world.runtime.pending()
            world.runtime.renew_api_key(KEYS[1])
            await waiting

    times = 1 if path == "/weights_info" else 2
    assert len(rebuilt(run(story, Status(path=path, nth=nth, times=times, status=401)))) == 1


@pytest.mark.parametrize("lose", LOSSES.values(), ids=LOSSES)
def test_what_a_model_is_can_be_asked_while_it_is_rebuilt(lose: Any):
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> tuple[str, str]:
        await steps(client, 1)
        await lose(world, client)
        waiting = await client.forward_backward(batch(4))
        while client._model.ledger.lost is None:  # noqa: ASYNC110  # it has no event
            await trio.sleep(0.001)
        info = await client.get_info()
        await waiting
        return info.model_id, client.model_id

    asked, there = run(story).value
    assert asked == there


@pytest.mark.parametrize("lose", LOSSES.values(), ids=LOSSES)
def test_who_asks_for_a_model_that_nobody_knows_to_be_lost_gets_the_one_in_its_place(lose: Any):
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> bool:
        await steps(client, 1)
        before = client.model_id
        await lose(world, client)
        info = await client.get_info()
        await steps(client, 2)
        return before != info.model_id == client.model_id

    outcome = run(story)
    assert outcome.value
    assert len(rebuilt(outcome)) == 1


def test_a_model_that_is_given_up_while_it_is_rebuilt_is_freed():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> list[str]:
        await (await client.save_state("first"))
        await steps(client, 1)
        await lose_model(world, client)
        await steps(client, 2)
        await world.settle()
        return [name for name, model in world.service.models.items() if model.closed is None] + [client.model_id]

    outcome = run(story, Status(path="/load_weights", status=400))
    open_model, there = outcome.value
    assert open_model == there
    assert there.endswith(":train:2"), "the one in between could not be loaded"


@pytest.mark.parametrize("status", [400, 403, 404, 409, 422])
@pytest.mark.parametrize("path", ["/create_session", "/client/config"])
def test_a_refusal_that_passes_costs_no_session(path: str, status: int):
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> list[float]:
        losses = await steps(client, 1)
        await lose_session(world, client)
        return losses + await steps(client, 2)

    assert run(story, Status(path=path, nth=2, status=status, times=3)).value == run(story).value


def test_samples_that_are_under_way_when_their_session_is_lost_are_made_again():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> list[Any]:
        sampler = await service.create_sampling_client(base_model=BASE_MODEL)
        truth = await sample(sampler)
        given: list[SampleResponse] = []

        async def get() -> None:
            given.append(await sample(sampler))

        for number in range(20):
            async with trio.open_nursery() as nursery:
                for _ in range(8):
                    nursery.start_soon(get)
                await trio.sleep(number * 0.003)
                await lose_session(world, client)
        return [tokens(one) == tokens(truth) for one in given]

    assert run(story).value == [True] * 160


def test_a_late_word_on_the_old_credential_halts_nothing():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> None:
        future = await client.forward_backward(batch(1))
        while not any("HTTP 401" in row.reason for row in world.runtime.pending()):  # noqa: ASYNC110  # no event
            await trio.sleep(0.001)
        world.runtime.renew_api_key(KEYS[1])
        await future.result(timeout=60.0)

    run(story, Status(path="/retrieve_future", nth=2, times=2, status=401))


@pytest.mark.parametrize("lost", LOSSES)
def test_what_fails_with_its_model_is_done_by_the_one_in_its_place(lost: str):
    def story(*, loses: bool) -> Any:
        async def told(world: World, service: ServiceClient, client: TrainingClient) -> list[float]:
            await steps(client, 1)
            waiting = [await client.forward_backward(batch(seed)) for seed in range(2, 10)]
            if loses:
                queue = world.service.models[client.model_id].queue
                with trio.fail_after(10.0):
                    while len(queue) < 8:  # noqa: ASYNC110  # until nothing is on its way; the server has no event
                        await trio.sleep(0.001)
                await LOSSES[lost](world, client)
                await trio.sleep(5.0)  # nothing else tells of it
            await (await client.optim_step(STEP))
            return [(await future).metrics["loss:sum"] for future in waiting]

        return told

    calm = run(story(loses=False))
    broken = run(story(loses=True), PauseQueue(path="/forward_backward", nth=2, seconds=30.0))
    assert len(rebuilt(broken)) == 1
    assert broken.value == calm.value
    assert broken.models[0].digest == calm.models[0].digest
