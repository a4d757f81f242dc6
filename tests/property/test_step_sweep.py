"""A crash, or a cancellation, at every scheduler step of a three-step training run; `make test` samples them."""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest
import trio

from supervision import ActorCrashed
from supervision.context import Context
from supervision.testing import run_seeded
from tests.property.steps import AtStep
from tinker_actors.clients import TrainingClient
from tinker_actors.clients.training.actor import TrainingActor
from tinker_actors.config import Config, RecoveryPolicy
from tinker_actors.errors import ModelLost
from tinker_actors.ledger import Future
from tinker_actors.local import ServerSettings
from tinker_actors.local.service import LocalService, open_service
from tinker_actors.ports import InlineOffload
from tinker_actors.runtime import Runtime, open_runtime
from tinker_actors.testing.faults import CrashActor, FaultPlan
from tinker_actors.testing.network import Network, open_network
from tinker_actors.testing.operations import BASE_MODEL, PROMPT, datum, plain, start_client
from tinker_actors.testing.simulation import Outcome, World, simulate
from tinker_actors.types import AdamParams, SamplingParams, SessionCancelled

EVERY = [pytest.param(5, id="sampled"), pytest.param(1, id="all", marks=pytest.mark.ci)]
ACTORS = (
    "training-0",
    "sampler-0",
    "service",
    "manager",
    "heartbeat",
    "queue-observer",
    "telemetry",
    "telemetry-sender",
)


class Planted(Exception):
    """The crash of this test."""


def crash(client: TrainingClient) -> None:
    """Whatever the client's present incarnation is doing, an exception comes out of one of its tasks."""

    async def fail() -> None:
        raise Planted

    life = client._ref.place.life
    if life is not None and life.place.state == "running":
        Context(life).start_task(fail, name="planted")


async def three_steps(client: TrainingClient) -> list[float]:
    losses: list[float] = []
    for number in range(3):
        step = await client.forward_backward([datum(number), datum(number + 10), datum(number + 20)])
        update = await client.optim_step(AdamParams(learning_rate=0.01))
        losses.append((await step).metrics["loss:sum"])
        await update
    return losses


def lose(client: TrainingClient) -> None:
    """One of the client's tasks has just learned that the server has lost the model."""
    life = client._ref.place.life
    if life is not None and isinstance(life.actor, TrainingActor) and client._model.ledger.lost is None:
        life.actor._give_up(ModelLost("it was lost"), None)


def run(
    instrument: AtStep, *, cancel: bool = False, act: Callable[[TrainingClient], None] = crash
) -> Outcome[list[float]]:
    async def scenario(world: World) -> list[float]:
        service = await world.runtime.create_service_client()
        client = world.watch(await start_client(service))
        losses: list[float] = []
        with trio.CancelScope() as scope:
            instrument.arm(scope.cancel if cancel else lambda: act(client))
            losses = await three_steps(client)
        instrument.disarm()
        return losses

    return simulate(
        scenario,
        seed=3,
        settings=ServerSettings(base_model=BASE_MODEL, fwdbwd_max_chunk_len=2),
        config=Config.load(
            base_url="https://server",
            api_key="tml-test",
            environ={},
            recovery=RecoveryPolicy(),
        ),
        instruments=[instrument],
    )


def work(instrument: AtStep, plan: FaultPlan) -> Outcome[tuple[list[float], Any]]:
    """Three steps and a sample, from the creation of the session on; ``instrument`` counts the steps."""

    async def scenario(world: World) -> tuple[list[float], Any]:
        instrument.arm(lambda: None)
        service = await world.runtime.create_service_client()
        sampler = await service.create_sampling_client(base_model=BASE_MODEL)
        client = world.watch(await start_client(service))
        losses = await three_steps(client)
        sample = plain(await sampler.sample(PROMPT, 1, SamplingParams(max_tokens=3, seed=5)))
        instrument.disarm()
        return losses, sample

    return simulate(
        scenario,
        seed=3,
        plan=plan,
        settings=ServerSettings(base_model=BASE_MODEL, fwdbwd_max_chunk_len=2),
        config=Config.load(base_url="https://server", api_key="tml-test", environ={}),
        instruments=[instrument],
    )


@pytest.fixture(scope="module")
def undisturbed() -> tuple[int, Outcome[list[float]]]:
    counter = AtStep(step=0)
    outcome = run(counter, cancel=False)
    return counter.steps, outcome


@pytest.mark.parametrize("every", EVERY)
def test_a_loss_of_the_model_at_every_step_changes_nothing_and_crashes_nobody(
    undisturbed: tuple[int, Outcome[list[float]]], every: int
):
    steps, truth = undisturbed
    for step in range(1, steps + 1, every):
        outcome = run(AtStep(step), act=lose)
        assert outcome.value == truth.value, f"step {step}"
        assert outcome.models[0].digest == truth.models[0].digest, f"step {step}"
        assert not [event for event in outcome.events if isinstance(event, ActorCrashed)], f"step {step}"


def digests(outcome: Outcome[list[float]]) -> tuple[list[str], list[str]]:
    (model,) = outcome.models
    return [d for o in model.accepted for d in o.digests], [o.digest for o in model.applied]


@pytest.mark.parametrize("every", EVERY)
def test_a_crash_at_every_step_changes_nothing(undisturbed: tuple[int, Outcome[list[float]]], every: int):
    steps, truth = undisturbed
    crashes = 0
    swept = range(1, steps + 1, every)
    for step in swept:
        instrument = AtStep(step)
        outcome = run(instrument, cancel=False)
        crashes += sum(event.__class__.__name__ == "ActorCrashed" for event in outcome.events)
        assert outcome.value == truth.value, f"step {step}"
        assert outcome.models[0].digest == truth.models[0].digest, f"step {step}"
        assert outcome.models[0].accepted == truth.models[0].accepted, f"step {step}"
        assert outcome.models[0].applied == truth.models[0].applied, f"step {step}"
    assert crashes > len(swept) * 0.8, "most steps did crash the client"


@pytest.mark.parametrize("every", [pytest.param(41, id="sampled"), pytest.param(1, id="all", marks=pytest.mark.ci)])
@pytest.mark.parametrize("actor", ACTORS)
def test_a_crash_of_any_actor_at_every_step_changes_nothing(every: int, actor: str):
    counter = AtStep(step=0)
    truth = work(counter, FaultPlan())
    assert counter.steps > 400
    crashes = 0
    first = 1 + ACTORS.index(actor) * 5 % every  # so that samples differ
    swept = range(first, counter.steps + 1, every)
    for step in swept:
        outcome = work(AtStep(step=0), FaultPlan((CrashActor(step=step, actor=actor),)))
        crashes += sum(isinstance(event, ActorCrashed) for event in outcome.events)
        assert outcome.value == truth.value, f"step {step}"
        assert outcome.models[0].digest == truth.models[0].digest, f"step {step}"
        assert outcome.models[0].accepted == truth.models[0].accepted, f"step {step}"
        assert [one.digest for one in outcome.models[0].applied] == [one.digest for one in truth.models[0].applied]
        assert outcome.left == ()
    assert crashes > len(swept) * 0.6, "most steps did crash it"


@pytest.mark.parametrize("every", EVERY)
def test_a_cancellation_at_every_step_loses_nothing_that_was_accepted(
    undisturbed: tuple[int, Outcome[list[float]]], every: int
):
    steps, truth = undisturbed
    for step in range(1, steps + 1, every):
        outcome = run(AtStep(step), cancel=True)
        accepted, applied = digests(outcome)
        whole, _ = digests(truth)
        assert applied == accepted, f"step {step}"
        assert accepted == whole[: len(accepted)], f"step {step}"


@asynccontextmanager
async def served() -> AsyncGenerator[tuple[LocalService, Network]]:
    rng = random.Random(5)
    async with (
        open_service(ServerSettings(base_model=BASE_MODEL), offload=InlineOffload(), random=rng) as service,
        open_network(service.app, random=rng) as network,
    ):
        yield service, network


def runtime_over(network: Network) -> AbstractAsyncContextManager[Runtime]:
    config = Config.load(base_url="https://server", api_key="tml-test", environ={})
    return open_runtime(config=config, transport=network.transport(), seed=1, offload=InlineOffload())


async def leave_at(instrument: AtStep) -> None:
    """The world around the runtime is cancelled: it ends in order, and nothing that was accepted is left waiting."""
    futures: list[Future[Any]] = []
    client: TrainingClient | None = None
    async with served() as (service, network):
        with trio.CancelScope() as scope:
            async with runtime_over(network) as runtime:
                client = await start_client(await runtime.create_service_client())
                instrument.arm(scope.cancel)
                for number in range(3):
                    futures.append(await client.forward_backward([datum(number)]))
                    futures.append(await client.optim_step(AdamParams()))
                for future in futures:
                    await future
                instrument.disarm()
        instrument.disarm()
        assert runtime.system.statistics().actors == 0
        assert runtime.pending() == ()
        assert all(future.done() for future in futures)
        assert len(futures) == len(client.accepted)
        await trio.sleep(60)  # what is on its way arrives
        applied = [operation.digest for operation in service.applied(client.model_id)]
        accepted = [digest for operation in client.accepted for digest in operation.digests]
        assert applied == accepted[: len(applied)]


@pytest.mark.parametrize("every", EVERY)
def test_the_runtime_can_be_left_at_every_step(every: int):
    counter = AtStep(step=0)
    run_seeded(leave_at, counter, seed=3, instruments=[counter])
    assert counter.steps > 50
    for step in range(1, counter.steps + 1, every):
        instrument = AtStep(step)
        run_seeded(leave_at, instrument, seed=3, instruments=[instrument])
        assert instrument.acted


async def close_while_it_ends(instrument: AtStep) -> None:
    """Another task closes the client while the runtime is ending: either way it is closed, and no error comes."""
    async with served() as (_, network), trio.open_nursery() as nursery:
        async with runtime_over(network) as runtime:
            client = await start_client(await runtime.create_service_client())
            await (await client.optim_step(AdamParams()))
            instrument.arm(lambda: nursery.start_soon(client.aclose))
        instrument.disarm()
        assert runtime.system.statistics().actors == 0


def test_a_client_can_be_closed_at_every_step_of_its_runtimes_end():
    counter = AtStep(step=0)
    run_seeded(close_while_it_ends, counter, seed=3, instruments=[counter])
    assert counter.steps > 20
    for step in range(1, counter.steps + 1):
        instrument = AtStep(step)
        run_seeded(close_while_it_ends, instrument, seed=3, instruments=[instrument])
        assert instrument.acted


async def leave_in_a_rebuild(instrument: AtStep, lost: str) -> None:
    """The same while a lost model or session is made good, with a sample that waits for it."""
    futures: list[Future[Any]] = []
    async with served() as (service, network):
        with trio.CancelScope() as scope:
            async with runtime_over(network) as runtime:
                owner = await runtime.create_service_client()
                client = await start_client(owner)
                await (await client.optim_step(AdamParams()))
                await (await client.save_state("first"))
                sampler = await client.save_weights_and_get_sampling_client()
                if lost == "model":
                    service.models[client.model_id].close("it was lost", abandon=True)
                else:
                    for session in service.sessions.alive():
                        await service.end_session(session, "was ended", SessionCancelled(), abandon=True)
                instrument.arm(scope.cancel)
                futures.append(sampler.sample_async(PROMPT, 1, SamplingParams(max_tokens=3, seed=5)))
                for number in range(2):
                    futures.append(await client.forward_backward([datum(number)]))
                    futures.append(await client.optim_step(AdamParams()))
                for future in futures:
                    await future
                instrument.disarm()
        instrument.disarm()
        assert runtime.system.statistics().actors == 0
        assert runtime.pending() == ()
        assert all(future.done() for future in futures)
        await trio.sleep(60)  # what is on its way arrives
        assert owner.session_id not in {session.session_id for session in service.sessions.alive()}
        await trio.sleep(1000)  # one whose creation was not answered in time ends without heartbeats
        assert not service.sessions.alive()
        accepted = [digest for operation in client.accepted for digest in operation.digests]
        for model_id in service.models:
            took = [one.digest for one in service.applied(model_id) if one.digest in accepted]
            first = accepted.index(took[0]) if took else 0
            assert took == accepted[first : first + len(took)], f"{model_id} took something twice or out of order"


@pytest.mark.parametrize("every", EVERY)
@pytest.mark.parametrize("lost", ["model", "session"])
def test_the_runtime_can_be_left_at_every_step_of_a_rebuild(every: int, lost: str):
    counter = AtStep(step=0)
    run_seeded(leave_in_a_rebuild, counter, lost, seed=3, instruments=[counter])
    assert counter.steps > 100
    for step in range(1, counter.steps + 1, every):
        instrument = AtStep(step)
        run_seeded(leave_in_a_rebuild, instrument, lost, seed=3, instruments=[instrument])
        assert instrument.acted
