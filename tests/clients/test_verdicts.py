"""What can't be known is said to be so, is never cleared by itself, and goes on as the user or the policy decides."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from supervision import Event
from tests.clients.scenario import batch, train
from tests.clients.test_epochs import STEP, lose_model, lose_session, rebuilt, steps
from tests.clients.test_server_classes import settings
from tinker_actors.clients import ServiceClient, TrainingClient
from tinker_actors.clients.training.events import DecisionDue, ModelGivenUp
from tinker_actors.config import RecoveryPolicy
from tinker_actors.errors import ClosedError, InvalidInput, LaneStopped, OutageError, UnknownVerdict
from tinker_actors.ledger import Future
from tinker_actors.server_class import ServerClass
from tinker_actors.testing.faults import CrashAt, Delay, DropAfter, DropBefore, Fault, Status
from tinker_actors.testing.simulation import Outcome, World
from tinker_actors.types import ForwardBackwardOutput, OptimStepResponse

ASK = RecoveryPolicy(unknown_outcome="ask")
LOST = DropAfter(path="/optim_step", nth=2)  # it had arrived
NEVER = DropBefore(path="/optim_step", nth=2)  # it had not


def run(
    story: Any, *faults: Fault, recovery: RecoveryPolicy | None = ASK, server_class: ServerClass = ServerClass.NONE
) -> Outcome[Any]:
    return train(story, *faults, settings=settings(server_class), recovery=recovery, outage_bound=120.0)


async def in_doubt(client: TrainingClient) -> tuple[UnknownVerdict, list[Future[Any]]]:
    """A step, then one whose optim_step #4 is in doubt, with #5 and #6 behind it."""
    await steps(client, 1)
    futures = [client.forward_backward_async(batch(2, 3, 4)), client.optim_step_async(STEP)]
    futures += [client.forward_backward_async(batch(3, 4, 5)), client.optim_step_async(STEP)]
    with pytest.raises(UnknownVerdict) as verdict:
        await futures[1]
    return verdict.value, futures


async def undisturbed(world: World, service: ServiceClient, client: TrainingClient) -> list[float]:
    return await steps(client, 1, 2, 3)


def kinds(outcome: Outcome[Any]) -> list[str]:
    return [operation.kind for operation in outcome.models[0].applied]


STEPS = ["forward_backward", "optim_step"]


def test_an_unknown_outcome_is_told_to_all_behind_it_and_stays_until_it_is_decided():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> None:
        verdict, futures = await in_doubt(client)
        assert client.verdict is verdict
        assert verdict.operation == "#4"
        assert verdict.behind == ("forward_backward #5", "optim_step #6")
        assert "Behind it: forward_backward #5, optim_step #6. Call restore(), assume_applied() or" in str(verdict)
        assert isinstance(await futures[0], ForwardBackwardOutput)  # promised before
        assert [await future.exception() for future in futures[1:]] == [verdict] * 3
        with pytest.raises(LaneStopped, match="waits for a decision"):
            await client.forward_backward(batch(9))
        with pytest.raises(LaneStopped, match="waits for a decision"):
            client.optim_step_async(STEP)
        sent = world.service.applied(client.model_id)
        await trio.sleep(3600.0)
        assert client.verdict is verdict
        assert world.service.applied(client.model_id) == sent
        rows = {row.name.rpartition("#")[2]: row for row in world.runtime.pending()}
        assert {number: row.state for number, row in rows.items()} == {
            "4": "verdict",
            "5": "undecided",
            "6": "undecided",
        }
        assert all("until restore, assume_applied or abandon" in row.reason for row in rows.values())

    outcome = run(story, LOST)
    assert len([event for event in outcome.events if isinstance(event, DecisionDue)]) == 1
    assert kinds(outcome) == STEPS * 2


@pytest.mark.parametrize("fault", [LOST, NEVER], ids=["arrived", "did not arrive"])
@pytest.mark.parametrize("crash", [None, 1, 2])
def test_restore_leaves_the_model_behind_and_does_all_once(fault: Fault, crash: int | None):
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> list[float]:
        _, futures = await in_doubt(client)
        update, third, last = await client.restore()
        assert client.verdict is None
        if crash is not None:  # which leaves in doubt what was just being sent
            assert isinstance(await last.exception(), UnknownVerdict)
            again = await client.restore()
            third, last = again[-2:]
        else:
            assert isinstance(await update, OptimStepResponse)
        assert isinstance(await last, OptimStepResponse)
        return [(await futures[0]).metrics["loss:sum"], (await third).metrics["loss:sum"]]

    crashes = () if crash is None else (CrashAt(point="training.polling", nth=5 + crash),)
    calm, broken = run(undisturbed), run(story, fault, *crashes)
    assert broken.value == calm.value[1:]
    assert broken.models[0].digest == calm.models[0].digest
    assert len(rebuilt(broken)) == 1 + len(crashes)


def test_a_crash_while_it_is_undecided_decides_nothing():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> None:
        verdict, _ = await in_doubt(client)
        assert await client.get_info()
        await trio.sleep(60.0)
        assert client.verdict is verdict
        assert len(world.service.applied(client.model_id)) == 4

    slow = Status(path="/retrieve_future", nth=4, status=503)
    outcome = run(story, LOST, slow, CrashAt(point="training.polling", nth=4))
    assert len(outcome.fired) == 3


@pytest.mark.parametrize("fault", [LOST, NEVER], ids=["arrived", "did not arrive"])
@pytest.mark.parametrize("recovery", [ASK, None], ids=["recovery", "no recovery"])
def test_assume_applied_goes_on_behind_it(fault: Fault, recovery: RecoveryPolicy | None):
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> None:
        await in_doubt(client)
        third, last = await client.assume_applied()
        await third
        await last

    outcome = run(story, fault, recovery=recovery)
    assert rebuilt(outcome) == []
    arrived = fault is LOST
    assert kinds(outcome) == STEPS + (STEPS * 2 if arrived else ["forward_backward", *STEPS])
    assert (outcome.models[0].digest == run(undisturbed).models[0].digest) is arrived


def test_what_is_assumed_to_have_been_applied_is_applied_again_to_another_model():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> None:
        await in_doubt(client)
        for future in await client.assume_applied():
            await future
        await lose_model(world, client)
        await steps(client, 4)

    async def calm(world: World, service: ServiceClient, client: TrainingClient) -> None:
        await steps(client, 1, 2, 3, 4)

    outcome = run(story, LOST)
    assert len(rebuilt(outcome)) == 1
    assert outcome.models[0].digest == run(calm).models[0].digest


def test_abandon_ends_it():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> None:
        await in_doubt(client)
        await client.abandon()
        assert client.verdict is None
        with pytest.raises(LaneStopped, match=r"was given up \(abandon\).*Create a new client") as refused:
            await client.optim_step(STEP)
        assert "restore()" not in str(refused.value), "there is nothing left to be restored"
        await trio.sleep(1.0)
        assert not world.runtime.pending()

    outcome = run(story, LOST)
    assert len([event for event in outcome.events if isinstance(event, ModelGivenUp)]) == 1


@pytest.mark.parametrize("choice", ["restore", "assume_applied", "abandon"])
def test_whoever_hears_that_a_decision_is_due_may_decide_at_once(choice: str):
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> list[str]:
        decided: list[Future[Any]] = []

        def decide(event: Event) -> None:
            if isinstance(event, DecisionDue):
                decided.append(getattr(client, f"{choice}_async")())

        with world.runtime.system.events.subscribe(decide):
            await in_doubt(client)
        (futures,) = [await future for future in decided]
        await world.settle()
        return [type(await future.exception()).__name__ for future in futures or ()]

    outcome = run(story, LOST)
    nothing = "NoneType"
    assert (
        outcome.value
        == {
            "restore": [nothing] * 3,
            "assume_applied": [nothing] * 2,
            "abandon": [],
        }[choice]
    )
    assert len(rebuilt(outcome)) == (choice == "restore")
    assert len([event for event in outcome.events if isinstance(event, ModelGivenUp)]) == (choice == "abandon")
    assert (outcome.models[0].digest == run(undisturbed).models[0].digest) is (choice != "abandon")


@pytest.mark.parametrize("lose", [lose_session, lose_model])
def test_a_loss_while_it_is_undecided_is_made_good_after_the_decision(lose: Any):
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> None:
        verdict, _ = await in_doubt(client)
        await lose(world, client)
        await trio.sleep(60.0)
        assert client.verdict is verdict
        for future in await client.assume_applied():
            await future

    outcome = run(story, LOST)
    assert len(rebuilt(outcome)) == 1
    assert outcome.models[0].digest == run(undisturbed).models[0].digest


def test_a_model_that_the_policy_gives_up_asks_for_no_decision():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> None:
        await steps(client, 1)
        await client.forward_backward(batch(2, 3, 4))
        error = await (await client.optim_step(STEP)).exception()
        assert isinstance(error, UnknownVerdict)
        assert "Behind it: nothing. The model is given up, as the policy says" in str(error)
        assert "Call " not in str(error)
        assert error.__cause__ is not None
        with pytest.raises(LaneStopped, match="given up, as the policy says"):
            await client.optim_step(STEP)

    run(story, LOST, recovery=RecoveryPolicy(unknown_outcome="abandon"))


@pytest.mark.parametrize("choice", ["restore", "assume_applied", "abandon"])
def test_the_policy_may_decide(choice: Any):
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> list[str]:
        await steps(client, 1)
        futures = [client.forward_backward_async(batch(2, 3, 4)), client.optim_step_async(STEP)]
        futures += [client.forward_backward_async(batch(3, 4, 5)), client.optim_step_async(STEP)]
        errors = [await future.exception() for future in futures]
        assert client.verdict is None
        return [type(error).__name__ for error in errors]

    outcome = run(story, LOST, recovery=RecoveryPolicy(unknown_outcome=choice))
    nothing, unknown = "NoneType", "UnknownVerdict"
    assert outcome.value == {
        "restore": [nothing] * 4,
        "assume_applied": [nothing, unknown, nothing, nothing],
        "abandon": [unknown] * 4,
    }[choice] or (choice == "abandon" and outcome.value[1:] == [unknown] * 3)
    assert len(rebuilt(outcome)) == (choice == "restore")
    assert (outcome.models[0].digest == run(undisturbed).models[0].digest) is (choice != "abandon")


def test_several_chunks_of_which_one_is_in_doubt():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> None:
        with pytest.raises(UnknownVerdict):
            await (await client.forward_backward(batch(1, 2, 3, 4, 5)))
        assert await client.assume_applied() == ()
        await (await client.optim_step(STEP))

    async def calm(world: World, service: ServiceClient, client: TrainingClient) -> None:
        await (await client.forward_backward(batch(1, 2, 3, 4, 5)))
        await (await client.optim_step(STEP))

    def chunked(story: Any, *faults: Fault) -> Outcome[Any]:
        one_by_one = settings(ServerClass.NONE, fwdbwd_max_chunk_len=2, parallel_fwdbwd_chunks=False)
        return train(story, *faults, settings=one_by_one, recovery=ASK)

    outcome = chunked(story, DropAfter(path="/forward_backward", nth=2))
    assert outcome.models[0].digest == chunked(calm).models[0].digest
    assert [operation.seq_id for operation in outcome.models[0].applied] == [1, 2, 3, 4]


@pytest.mark.parametrize("server_class", ServerClass)
@pytest.mark.parametrize("recovery", [RecoveryPolicy(), None], ids=["recovery", "no recovery"])
def test_after_an_outage_all_goes_on_where_it_was(server_class: ServerClass, recovery: RecoveryPolicy | None):
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> None:
        await steps(client, 1)
        futures = [client.forward_backward_async(batch(2, 3, 4)), client.optim_step_async(STEP)]
        await trio.sleep(0.0)
        world.network.partition()
        errors = [await future.exception() for future in futures]
        assert isinstance(errors[0], OutageError)
        assert errors[0] is errors[1] is client.verdict
        assert "restore() of its client goes on" in str(errors[0])
        with pytest.raises(LaneStopped, match="waits for a decision"):
            await client.optim_step(STEP)
        world.network.heal()
        await trio.sleep(600.0)
        assert client.verdict is errors[0]
        for future in await client.restore():
            await future
        await steps(client, 3)

    outcome = run(story, recovery=recovery, server_class=server_class)
    assert outcome.models[0].digest == run(undisturbed).models[0].digest


def test_after_an_outage_nothing_is_asked_until_it_is_decided():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> int:
        await steps(client, 1)
        forward = client.forward_backward_async(batch(2, 3, 4))
        while not any(row.state == "promised" for row in world.runtime.pending()):  # noqa: ASYNC110
            await trio.sleep(0.001)
        world.network.partition()
        assert isinstance(await forward.exception(), OutageError)
        world.network.heal()
        asked = world.runtime.counters()["polls"]
        await trio.sleep(600.0)
        assert world.runtime.counters()["polls"] == asked
        (again,) = await client.restore()
        assert (await again).metrics["loss:sum"] > 0
        return len(world.service.applied(client.model_id))

    slow = Delay(path="/retrieve_future", nth=4, seconds=5.0)
    assert run(story, slow, server_class=ServerClass.DEDUP).value == 3


def test_an_outage_while_a_model_is_rebuilt_can_be_gone_on_from():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> None:
        await steps(client, 1, 2)
        await lose_model(world, client)
        forward, update = client.forward_backward_async(batch(3, 4, 5)), client.optim_step_async(STEP)
        while not any(row.kind == "rebuild" for row in world.runtime.pending()):  # noqa: ASYNC110
            await trio.sleep(0.01)
        world.network.partition()
        assert isinstance(await forward.exception(), OutageError)
        world.network.heal()
        for future in await client.restore():
            await future
        assert isinstance(await update.exception(), OutageError)

    outcome = run(story, recovery=RecoveryPolicy(), server_class=ServerClass.DEDUP)
    assert outcome.models[0].digest == run(undisturbed).models[0].digest
    assert len(rebuilt(outcome)) == 1


def test_who_waits_to_be_accepted_is_told():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> None:
        update = client.optim_step_async(STEP)
        told: list[str] = []

        async def one_more() -> None:
            with pytest.raises(LaneStopped, match="waits for a decision") as stopped:
                await client.optim_step(STEP)
            told.append(str(stopped.value))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(one_more)
            assert isinstance(await update.exception(), UnknownVerdict)
        assert len(told) == 1
        with pytest.raises(LaneStopped, match="waits for a decision"):
            await client.optim_step(STEP)
        (update,) = await client.restore()
        await update
        await (await client.optim_step(STEP))

    train(
        story,
        DropAfter(path="/optim_step"),
        settings=settings(ServerClass.NONE),
        recovery=ASK,
        max_pending=1,
    )


def test_a_decision_that_nothing_calls_for_is_refused():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> None:
        for decide in (client.restore, client.assume_applied, client.abandon):
            with pytest.raises(InvalidInput, match="there is nothing to decide"):
                await decide()
        for decide in (client.restore_async, client.assume_applied_async, client.abandon_async):
            with pytest.raises(InvalidInput, match="there is nothing to decide"):
                decide()
        world.network.partition()
        assert isinstance(await client.optim_step_async(STEP).exception(), OutageError)
        with pytest.raises(InvalidInput, match="nothing is in doubt"):
            await client.assume_applied()
        world.network.heal()
        (update,) = await client.restore_async()
        await update

    async def kept_nothing(world: World, service: ServiceClient, client: TrainingClient) -> None:
        await in_doubt(client)
        with pytest.raises(InvalidInput, match="without recovery nothing is kept"):
            await client.restore()
        assert client.verdict is not None
        await client.abandon_async()

    run(story)
    run(kept_nothing, LOST, recovery=None)


def test_a_client_that_is_undecided_can_be_closed_and_its_model_freed():
    async def closes(world: World, service: ServiceClient, client: TrainingClient) -> None:
        await in_doubt(client)
        await client.aclose()

        for decide in (client.restore, client.assume_applied, client.abandon):
            with pytest.raises(ClosedError, match="was not done: this client was closed"):
                await decide()

    async def ends(world: World, service: ServiceClient, client: TrainingClient) -> None:
        await in_doubt(client)
        await service.aclose()
        for decide in (client.restore_async, client.assume_applied_async, client.abandon_async):
            with pytest.raises(ClosedError, match="was not done"):
                decide()

    async def frees(world: World, service: ServiceClient, client: TrainingClient) -> bool:
        await in_doubt(client)
        await client.unload_model()
        return world.service.models[client.model_id].closed is not None

    run(closes, LOST)
    run(ends, LOST)
    assert run(frees, LOST).value
