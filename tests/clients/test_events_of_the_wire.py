"""What each event means while an operation is submitted and while its result is polled, at servers of each class."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio

from tests.clients.scenario import batch, train
from tests.clients.test_epochs import STEP, rebuilt, steps
from tests.clients.test_server_classes import settings
from tinker_actors.clients import ServiceClient, TrainingClient
from tinker_actors.clients.training.events import DecisionDue
from tinker_actors.config import RecoveryPolicy
from tinker_actors.errors import (
    APIStatusError,
    AuthenticationError,
    BillingError,
    ConflictError,
    LaneStopped,
    OutageError,
    PermissionDeniedError,
    RequestFailedError,
    UnknownVerdict,
)
from tinker_actors.server_class import ServerClass
from tinker_actors.testing.faults import Delay, DropAfter, DropBefore, Fault, RefuseSeqId, Status, Truncate
from tinker_actors.testing.simulation import Outcome, World

DEDUP, ORDERED, NONE = ServerClass
FOREVER = 100_000
ASK = RecoveryPolicy(unknown_outcome="ask")
SUBMIT = {"path": "/optim_step", "nth": 2}
POLL = {
    "path": "/retrieve_future",
    "nth": 5,
}  # those of the creation and of three operations come first: this is optim_step #4's
PHASES = {"submitting": SUBMIT, "polling": POLL}


def run(
    server_class: ServerClass, story: Any, *faults: Fault, recovery: RecoveryPolicy | None = ASK, **others: Any
) -> Outcome[Any]:
    return train(story, *faults, settings=settings(server_class, **others), recovery=recovery, outage_bound=300.0)


async def three(world: World, service: ServiceClient, client: TrainingClient) -> None:
    await steps(client, 1, 2, 3)


def digest(outcome: Outcome[Any]) -> str:
    (model,) = outcome.models
    return model.digest


LOST = {
    "no connection": lambda at: DropBefore(**at),
    "reset": lambda at: DropAfter(**at),
    "timeout": lambda at: Delay(**at, seconds=90.0, reply=True),
    "cut off": lambda at: Truncate(**at),
    "408": lambda at: Status(**at, status=408),
    "500": lambda at: Status(**at, status=500),
    "502 of a proxy": lambda at: Status(**at, status=502, after=True),
    "503": lambda at: Status(**at, status=503),
}
ARRIVED = ("reset", "timeout", "cut off", "502 of a proxy")


@pytest.mark.parametrize("event", LOST)
@pytest.mark.parametrize("server_class", ServerClass)
def test_no_usable_answer_while_submitting(server_class: ServerClass, event: str):
    async def asked(world: World, service: ServiceClient, client: TrainingClient) -> bool:
        await steps(client, 1)
        forward, update = client.forward_backward_async(batch(2, 3, 4)), client.optim_step_async(STEP)
        await forward
        unknown = isinstance(await update.exception(), UnknownVerdict)
        if unknown:
            (update,) = await client.restore()
        await update
        await steps(client, 3)
        return unknown

    outcome = run(server_class, asked, LOST[event](SUBMIT))
    assert len(outcome.fired) == 1
    assert digest(outcome) == digest(run(server_class, three))
    assert outcome.value is (server_class is NONE)
    assert len(rebuilt(outcome)) == (server_class is NONE or (server_class is ORDERED and event in ARRIVED))


@pytest.mark.parametrize("event", LOST)
@pytest.mark.parametrize("server_class", ServerClass)
def test_no_usable_answer_while_polling(server_class: ServerClass, event: str):
    outcome = run(server_class, three, LOST[event](POLL))
    assert len(outcome.fired) == 1
    assert digest(outcome) == digest(run(server_class, three))
    assert rebuilt(outcome) == []


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("server_class", ServerClass)
@pytest.mark.parametrize("status", [429, 402])
def test_what_the_server_asks_to_wait_for_is_waited_for(server_class: ServerClass, phase: str, status: int):
    fault = Status(**PHASES[phase], status=status, times=3, retry_after=25.0)
    outcome = run(server_class, three, fault)
    calm = run(server_class, three)
    assert len(outcome.fired) == 3
    assert digest(outcome) == digest(calm)
    assert outcome.seconds - calm.seconds > 60.0
    assert rebuilt(outcome) == []


@pytest.mark.parametrize("phase", PHASES)
def test_a_billing_pause_lasts_as_long_as_the_policy_says_and_stops_the_lane(phase: str):
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> float:
        await steps(client, 1)
        began = trio.current_time()
        await (await client.forward_backward(batch(2, 3, 4)))
        with pytest.raises(BillingError):
            await (await client.optim_step(STEP))
        took = trio.current_time() - began
        with pytest.raises(LaneStopped, match="has stopped"):
            await client.optim_step(STEP)
        return took

    fault = Status(**PHASES[phase], status=402, times=FOREVER)
    assert 600 <= run(DEDUP, story, fault, recovery=RecoveryPolicy(billing_pause=600.0)).value < 700


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("server_class", ServerClass)
def test_a_refused_credential_halts_the_lane_and_keeps_everything(server_class: ServerClass, phase: str):
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> None:
        await steps(client, 1)
        forward, update = client.forward_backward_async(batch(2, 3, 4)), client.optim_step_async(STEP)
        await forward
        await trio.sleep(60.0)
        assert not update.done()
        with pytest.raises(LaneStopped, match="is halted") as halted:
            await client.optim_step(STEP)
        assert isinstance(halted.value.__cause__, AuthenticationError)
        world.runtime.renew_api_key("tml-another")
        await update
        await steps(client, 3)

    def shared(story: Any, *faults: Fault) -> Outcome[Any]:
        keys = {"somebody": ("tml-test", "tml-another")}
        return run(server_class, story, *faults, owners=keys)

    outcome = shared(story, Status(**PHASES[phase], status=401, times=2))
    assert digest(outcome) == digest(shared(three))
    assert rebuilt(outcome) == []


@pytest.mark.parametrize("server_class", ServerClass)
@pytest.mark.parametrize("status", [400, 413, 422])
@pytest.mark.parametrize("filled", [True, False], ids=["filled", "can't be filled"])
def test_a_refused_operation_fails_and_the_lane_goes_on(server_class: ServerClass, status: int, filled: bool):
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> None:
        await steps(client, 1)
        with pytest.raises(APIStatusError) as refused:
            await (await client.optim_step(STEP))
        assert refused.value.status == status
        await steps(client, 2, 3)

    faults = [Status(**SUBMIT, status=status)]
    if not filled:
        faults.append(Status(path="/forward_backward", nth=2, status=status))
    outcome = run(server_class, story, *faults)
    assert len(outcome.fired) == len(faults)
    assert digest(outcome) == digest(run(server_class, three))
    assert len(rebuilt(outcome)) == (not filled)


@pytest.mark.parametrize("times", [3, 4])
@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_refused_poll_is_tried_three_times_more_and_then_the_operation_fails(status: int, times: int):
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> None:
        await steps(client, 1)
        await (await client.forward_backward(batch(2, 3, 4)))
        error = await (await client.optim_step(STEP)).exception()
        assert (error is None) is (times == 3)
        assert error is None or (isinstance(error, APIStatusError) and error.status == status)
        await steps(client, 3)

    outcome = run(DEDUP, story, Status(**POLL, status=status, times=times))
    assert digest(outcome) == digest(run(DEDUP, three))  # it was applied, though nobody could be told
    assert rebuilt(outcome) == []


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("status", [403, 409])
@pytest.mark.parametrize("server_class", ServerClass)
def test_what_nothing_behind_it_can_do_better_stops_the_lane(server_class: ServerClass, status: int, phase: str):
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> None:
        await steps(client, 1)
        await (await client.forward_backward(batch(2, 3, 4)))
        with pytest.raises(PermissionDeniedError if status == 403 else ConflictError):
            await (await client.optim_step(STEP))
        with pytest.raises(LaneStopped, match="has stopped"):
            await client.optim_step(STEP)

    assert rebuilt(run(server_class, story, Status(**PHASES[phase], status=status))) == []


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("status", [404, 410])
@pytest.mark.parametrize("server_class", ServerClass)
def test_what_is_gone_is_a_new_epoch(server_class: ServerClass, status: int, phase: str):
    outcome = run(server_class, three, Status(**PHASES[phase], status=status))
    assert len(outcome.fired) == 1
    assert digest(outcome) == digest(run(server_class, three))
    assert len(rebuilt(outcome)) == 1


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("server_class", ServerClass)
def test_a_409_that_names_a_later_seq_id_is_an_arrival_where_the_order_is_kept(server_class: ServerClass, phase: str):
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> str:
        await steps(client, 1)
        await (await client.forward_backward(batch(2, 3, 4)))
        error = await (await client.optim_step(STEP)).exception()
        if error is None:
            await steps(client, 3)
        return type(error).__name__

    fault = RefuseSeqId(**PHASES[phase], expected=5)
    outcome = run(server_class, story, fault)
    assert outcome.value == ("NoneType" if server_class is ORDERED else "ConflictError")
    assert len(rebuilt(outcome)) == (server_class is ORDERED)
    if server_class is ORDERED:
        assert digest(outcome) == digest(run(server_class, three))


@pytest.mark.parametrize("category", ["user", "server", "unknown"])
@pytest.mark.parametrize("policy", ["fail", "rebuild"])
def test_an_operation_that_failed_at_the_server(category: str, policy: Any):
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> None:
        await steps(client, 1)
        await (await client.forward_backward(batch(2, 3, 4)))
        with pytest.raises(RequestFailedError) as failed:
            await (await client.optim_step(STEP))
        assert failed.value.category == category
        await steps(client, 3)

    async def without(world: World, service: ServiceClient, client: TrainingClient) -> None:
        await steps(client, 1)
        await (await client.forward_backward(batch(2, 3, 4)))
        await steps(client, 3)

    body = json.dumps({"error": "it broke", "category": category})
    outcome = run(DEDUP, story, Status(**POLL, status=200, body=body), recovery=RecoveryPolicy(server_failure=policy))
    again = policy == "rebuild" and category != "user"
    assert len(rebuilt(outcome)) == again
    # the fault only says that it failed: a model that goes on has it, another one does not
    assert digest(outcome) == digest(run(DEDUP, without if again else three))


def test_some_chunks_that_failed_are_a_new_epoch_without_the_operation():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> None:
        await steps(client, 1)
        with pytest.raises(RequestFailedError):
            await (await client.forward_backward(batch(7, 8, 9, 10)))
        await steps(client, 2, 3)

    body = json.dumps({"error": "it broke", "category": "user"})
    fault = Status(path="/retrieve_future", nth=5, status=200, body=body)
    outcome = run(DEDUP, story, fault, fwdbwd_max_chunk_len=3)
    assert len(rebuilt(outcome)) == 1
    assert digest(outcome) == digest(run(DEDUP, three, fwdbwd_max_chunk_len=3))


@pytest.mark.parametrize("phase", PHASES)
def test_an_outage_is_one_error_for_all_that_wait_and_keeps_everything(phase: str):
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> None:
        await steps(client, 1)
        await (await client.forward_backward(batch(2, 3, 4)))
        update, behind = client.optim_step_async(STEP), client.forward_backward_async(batch(3, 4, 5))
        error = await update.exception()
        assert isinstance(error, OutageError)
        assert await behind.exception() is error is client.verdict
        while client.verdict is not None:  # the server is not back yet
            for future in await client.restore():
                await future.exception()
        await (await client.optim_step(STEP))

    fault = Status(**PHASES[phase], status=503, times=200)
    outcome = run(DEDUP, story, fault)
    assert len([event for event in outcome.events if isinstance(event, DecisionDue)]) >= 1
    assert digest(outcome) == digest(run(DEDUP, three))
    assert rebuilt(outcome) == []
