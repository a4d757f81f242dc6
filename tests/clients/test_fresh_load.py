"""load_state in mid-life at a server that loads into fresh models only."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from tests.clients.scenario import batch, train
from tinker_actors.clients import ServiceClient, TrainingClient
from tinker_actors.config import RecoveryPolicy
from tinker_actors.errors import GoneError, NotFoundError
from tinker_actors.local import ServerSettings
from tinker_actors.testing.faults import CrashAt, Delay, DropAfter, Fault, LosePromises, Status
from tinker_actors.testing.operations import BASE_MODEL, PROMPT
from tinker_actors.testing.simulation import Outcome, World
from tinker_actors.types import AdamParams, SamplingParams, SessionCancelled

STEP = AdamParams(learning_rate=1e-2)
STRICT = ServerSettings(base_model=BASE_MODEL, load_first_only=True)
LENIENT = ServerSettings(base_model=BASE_MODEL)


async def steps(client: TrainingClient, *seeds: int) -> list[float]:
    losses: list[float] = []
    for seed in seeds:
        forward = await client.forward_backward(batch(seed, seed + 1))
        update = await client.optim_step(STEP)
        losses.append((await forward).metrics["loss:sum"])
        await update
    return losses


def run(settings: ServerSettings, *faults: Fault, optimizer: bool = True, lost: bool = False) -> Outcome[Any]:
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> Any:
        losses = await steps(client, 1)
        path = (await (await client.save_state("first"))).path
        early = await client.save_weights_and_get_sampling_client()
        losses += await steps(client, 2)
        waiting = await client.forward_backward(batch(9))  # its gradients are dropped by the load
        load = await (client.load_state_with_optimizer(path) if optimizer else client.load_state(path))
        after = await client.forward_backward(batch(5, 6))
        update = await client.optim_step(STEP)
        assert (await load).path == path
        losses += [(await future).metrics["loss:sum"] for future in (waiting, after)]
        await update
        if lost:
            for session in world.service.sessions.alive():
                await world.service.end_session(session, "was ended", SessionCancelled(), abandon=True)
        losses += await steps(client, 3)
        if not lost:
            (sequence,) = (await early.sample(PROMPT, 1, SamplingParams(max_tokens=3, seed=1))).sequences
            return losses, sequence.tokens.tolist()
        return losses, None

    return train(story, *faults, settings=settings, recovery=RecoveryPolicy())


@pytest.mark.parametrize("optimizer", [True, False])
def test_the_state_goes_into_a_new_model_and_nobody_notices(optimizer: bool):
    strict, lenient = run(STRICT, optimizer=optimizer), run(LENIENT, optimizer=optimizer)
    assert strict.value == lenient.value
    assert strict.models[0].digest == lenient.models[0].digest
    assert strict.models[0].model_id.endswith(":train:1")
    assert "models_lost" not in strict.counters or strict.counters["models_lost"] == 0


def test_the_old_model_is_freed():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> list[bool]:
        await steps(client, 1)
        await (await client.load_state((await (await client.save_state("first"))).path))
        await steps(client, 2)
        await world.settle()
        return [model.closed is None for model in world.service.models.values()]

    assert train(story, settings=STRICT).value == [False, True]


def test_the_old_model_is_kept_while_it_owes_results():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> list[list[bool]]:
        seen: list[list[bool]] = []

        async def look() -> None:
            await trio.sleep(5.0)
            seen.append([model.closed is None for model in world.service.models.values()])

        await steps(client, 1)
        path = (await (await client.save_state("first"))).path
        late = await client.forward_backward(batch(4))
        await (await client.load_state(path))
        await look()
        await late
        await look()
        return seen

    late = Delay(path="/retrieve_future", nth=5, seconds=20.0, reply=True)
    assert train(story, late, settings=STRICT).value == [[True, True], [False, True]]


def test_a_path_that_is_none_fails_the_load_alone_and_training_goes_on(caplog: pytest.LogCaptureFixture):
    def story(settings: ServerSettings, *, load: bool) -> Outcome[Any]:
        async def told(world: World, service: ServiceClient, client: TrainingClient) -> None:
            await steps(client, 1)
            if load:
                with pytest.raises(NotFoundError, match="there is no checkpoint"):
                    await (await client.load_state("tinker://sess-0:train:7/weights/none"))
            await steps(client, 2)

        return train(told, settings=settings)

    strict, calm = story(STRICT, load=True), story(LENIENT, load=False)
    assert "its load is made again" not in caplog.text
    assert strict.models[0].model_id == calm.models[0].model_id
    assert strict.models[0].digest == calm.models[0].digest


@pytest.mark.parametrize("lost", [1, 2, 6])
def test_a_load_whose_promise_is_lost_is_made_again_by_another_model(lost: int):
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> str | None:
        await steps(client, 1)
        path = (await (await client.save_state("first"))).path
        await steps(client, 2)
        refused = None
        try:
            await (await client.load_state(path))
        except GoneError as error:
            refused = str(error)
        else:
            await steps(client, 3)
        return refused

    earlier = 6  # polls: of the first model's creation, two steps' two requests each, and the save
    outcome = train(
        story,
        *(LosePromises(path="/retrieve_future", nth=nth) for nth in range(earlier + 1, earlier + lost + 1)),
        settings=STRICT,
    )
    assert len(outcome.fired) == lost
    if lost < 6:
        assert outcome.value is None
        assert outcome.models[0].model_id.endswith(f":train:{1 + lost}")
        assert outcome.models[0].digest == train(story, settings=LENIENT).models[0].digest
    else:
        assert outcome.value is not None  # the load alone: the model in training is there
        assert outcome.models[0].model_id.endswith(":train:0")


def test_a_model_that_is_lost_later_goes_on_from_the_load():
    strict, lenient = run(STRICT, lost=True), run(LENIENT, lost=False)
    assert strict.value[0] == lenient.value[0]
    assert strict.models[0].digest == lenient.models[0].digest


@pytest.mark.parametrize(
    "fault",
    [
        *(CrashAt(point="training.creating", nth=nth) for nth in (2, 3)),
        DropAfter(path="/load_weights", nth=1),
        DropAfter(path="/load_weights", nth=2),
        DropAfter(path="/create_model", nth=2),
        Status(path="/load_weights", nth=2, status=503),
    ],
    ids=repr,
)
def test_whatever_breaks_meanwhile_the_state_is_the_same(fault: Fault):
    strict, lenient = run(STRICT, fault), run(LENIENT)
    assert strict.value == lenient.value
    assert strict.models[0].digest == lenient.models[0].digest
