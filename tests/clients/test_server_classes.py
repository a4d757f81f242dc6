"""What a server does with a repeated request is known before there is one that matters, and decides what is sent."""

from __future__ import annotations

from typing import Any

import pytest

from tests.clients.scenario import batch, train
from tests.clients.test_epochs import STEP, rebuilt, steps
from tinker_actors.clients import ServiceClient, TrainingClient
from tinker_actors.config import Config, RecoveryPolicy
from tinker_actors.errors import UnknownVerdict
from tinker_actors.local import ServerSettings
from tinker_actors.server_class import ServerClass
from tinker_actors.sessions import ServerClassFound, of_ids, of_server
from tinker_actors.testing.faults import CrashAt, DropAfter, DropBefore, Fault, Status, Truncate
from tinker_actors.testing.operations import BASE_MODEL, start_client
from tinker_actors.testing.simulation import Outcome, World
from tinker_actors.types import ClientConfig

CLASSES = tuple(ServerClass)
POLICY = RecoveryPolicy()


def settings(server_class: ServerClass, *, tells: bool = True, **others: Any) -> ServerSettings:
    return ServerSettings(base_model=BASE_MODEL, server_class=server_class, tells_class=tells, **others)


def run(
    server_class: ServerClass,
    story: Any,
    *faults: Fault,
    tells: bool = True,
    recovery: RecoveryPolicy | None = POLICY,
    **others: Any,
) -> Outcome[Any]:
    return train(story, *faults, settings=settings(server_class, tells=tells, **others), recovery=recovery)


def found(outcome: Outcome[Any]) -> list[ServerClass]:
    return [event.server_class for event in outcome.events if isinstance(event, ServerClassFound)]


async def three_steps(world: World, service: ServiceClient, client: TrainingClient) -> list[float]:
    return await steps(client, 1, 2, 3)


@pytest.mark.parametrize("server_class", CLASSES)
def test_a_server_that_says_its_class_is_asked_nothing(server_class: ServerClass):
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> ServerClass | None:
        before = service.server_class
        await steps(client, 1)
        return before

    outcome = run(server_class, story)
    assert outcome.value is server_class
    assert found(outcome) == [server_class]
    assert [operation.kind for operation in outcome.models[0].applied] == ["forward_backward", "optim_step"]


@pytest.mark.parametrize("server_class", CLASSES)
@pytest.mark.parametrize(
    "fault",
    [
        None,
        DropBefore(path="/forward_backward"),
        DropAfter(path="/forward_backward"),
        DropAfter(path="/forward_backward", nth=2),
        DropAfter(path="/forward_backward", times=2),
        Status(path="/forward_backward", nth=2, status=503, after=True),
        Truncate(path="/forward_backward", nth=2),
        CrashAt(point="training.probing"),
    ],
    ids=str,
)
def test_an_unknown_server_shows_its_class_whatever_is_lost(server_class: ServerClass, fault: Fault | None):
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> tuple[list[float], Any, Any]:
        before = service.server_class
        losses = await steps(client, 1, 2, 3)
        return losses, before, service.server_class

    outcome = run(server_class, story, *([] if fault is None else [fault]), tells=False)
    losses, before, after = outcome.value
    assert (before, after) == (None, server_class)
    assert found(outcome) == [server_class]
    calm = run(server_class, three_steps)
    assert losses == calm.value
    assert outcome.models[0].digest == calm.models[0].digest
    kinds = [operation.kind for operation in outcome.models[0].applied]
    assert [kind for kind in kinds if kind != "forward"] == [operation.kind for operation in calm.models[0].applied]
    if fault is None:
        assert kinds.count("forward") == (2 if server_class is ServerClass.NONE else 1)


def test_what_shows_the_class_may_be_refused():
    fault = Status(path="/forward_backward", status=400)
    outcome = run(ServerClass.DEDUP, three_steps, fault, tells=False)
    assert found(outcome) == [ServerClass.NONE]
    assert [operation.seq_id for operation in outcome.models[0].applied] == list(range(1, 7))


def test_one_model_of_a_session_asks_for_all():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> None:
        other = world.watch(await start_client(service))
        first = client.forward_backward_async(batch(1))
        second = other.forward_backward_async(batch(1))
        await first
        await second

    outcome = run(ServerClass.DEDUP, story, tells=False)
    kinds = sorted([operation.kind for operation in model.applied] for model in outcome.models)
    assert kinds == [["forward", "forward_backward"], ["forward_backward"]]
    assert found(outcome) == [ServerClass.DEDUP]


def test_nothing_comes_before_a_load_into_a_new_model():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> tuple[int, Any]:
        path = (await (await client.save_state("kept"))).path
        fresh = world.watch(await start_client(service))
        await (await fresh.load_state(path))
        await steps(fresh, 1)
        return len(world.service.models), service.server_class

    async def loads_first(world: World, service: ServiceClient, client: TrainingClient) -> tuple[int, Any]:
        other = await world.runtime.create_service_client()
        path = (await (await (await start_client(other)).save_state("kept"))).path
        assert service.server_class is None
        await (await client.load_state(path))
        models, before = len(world.service.models), service.server_class
        await steps(client, 1)
        assert service.server_class is ServerClass.DEDUP
        return models, before

    assert run(ServerClass.DEDUP, story, tells=False, load_first_only=True).value == (2, ServerClass.DEDUP)
    assert run(ServerClass.DEDUP, loads_first, tells=False, load_first_only=True).value == (2, None)


@pytest.mark.parametrize("server_class", CLASSES)
@pytest.mark.parametrize(
    "fault",
    [DropBefore(path="/load_weights"), DropAfter(path="/load_weights"), CrashAt(point="training.sent", nth=4)],
    ids=str,
)
def test_a_first_load_is_done_once_where_the_class_is_not_known_yet(server_class: ServerClass, fault: Fault):
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> list[float]:
        other = await world.runtime.create_service_client()
        earlier = await start_client(other)
        await steps(earlier, 1)
        path = (await (await earlier.save_state("kept"))).path
        assert service.server_class is None
        await (await client.load_state(path))
        return await steps(client, 2)

    outcome = run(server_class, story, fault, tells=False)
    assert len(outcome.fired) == 1
    assert [one.kind for one in outcome.models[0].applied].count("load_state") == 1
    calm = run(server_class, story, tells=False)
    assert (outcome.value, outcome.models[0].digest) == (calm.value, calm.models[0].digest)


@pytest.mark.parametrize("times", [1, 3])
def test_class_none_is_never_sent_again_what_may_have_arrived(times: int):
    faults = (
        DropAfter(path="/optim_step", nth=2),
        Status(path="/forward_backward", nth=5, status=503),
        CrashAt(point="training.sent", nth=12),
    )[:times]
    calm, broken = run(ServerClass.NONE, three_steps), run(ServerClass.NONE, three_steps, *faults)
    assert len(broken.fired) == times
    assert broken.value == calm.value
    assert broken.models[0].digest == calm.models[0].digest
    assert len(rebuilt(broken)) == times


def test_class_none_is_sent_again_what_has_never_left():
    faults = (DropBefore(path="/optim_step", nth=2, known=True), Status(path="/forward_backward", nth=2, status=429))
    outcome = run(ServerClass.NONE, three_steps, *faults)
    assert len(outcome.fired) == 2
    assert rebuilt(outcome) == []
    assert outcome.models[0].digest == run(ServerClass.NONE, three_steps).models[0].digest


@pytest.mark.parametrize(
    "fault", [DropAfter(path="/optim_step", nth=2), DropBefore(path="/optim_step", nth=2)], ids=str
)
def test_without_recovery_what_class_none_may_have_done_is_a_verdict(fault: Fault):
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> int:
        await steps(client, 1)
        await (await client.forward_backward(batch(2)))
        with pytest.raises(UnknownVerdict, match=r"can't be known whether optim_step #4 was applied"):
            await (await client.optim_step_async(STEP))
        return [operation.kind for operation in world.service.applied(client.model_id)].count("optim_step")

    outcome = run(ServerClass.NONE, story, fault, recovery=None)
    assert outcome.value == (2 if isinstance(fault, DropAfter) else 1)


def test_class_ordered_tells_whether_a_repeated_request_had_arrived():
    calm = run(ServerClass.ORDERED, three_steps)
    lost = run(ServerClass.ORDERED, three_steps, DropBefore(path="/optim_step", nth=2))
    assert lost.models[0].digest == calm.models[0].digest
    assert rebuilt(lost) == []
    done = run(ServerClass.ORDERED, three_steps, DropAfter(path="/optim_step", nth=2))
    assert done.models[0].digest == calm.models[0].digest
    (event,) = rebuilt(done)
    assert "has had it before" in event.cause
    assert done.value == lost.value == calm.value


def test_class_ordered_gets_chunks_one_after_the_other():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> None:
        await (await client.forward_backward(batch(1, 2, 3, 4, 5)))

    outcome = run(ServerClass.ORDERED, story, fwdbwd_max_chunk_len=2)
    assert [operation.seq_id for operation in outcome.models[0].applied] == [1, 2, 3]
    assert rebuilt(outcome) == []


@pytest.mark.parametrize("server_class", CLASSES)
@pytest.mark.parametrize("fault", [DropBefore(path="/load_weights"), DropAfter(path="/load_weights")], ids=str)
def test_a_state_is_never_loaded_late(server_class: ServerClass, fault: Fault):
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> list[float]:
        await steps(client, 1)
        await (await client.save_state("kept"))
        losses = await steps(client, 2)
        world.service.models[client.model_id].close("it was lost", abandon=True)
        return losses + await steps(client, 3)

    outcome = run(server_class, story, fault)
    assert len(outcome.fired) == 1
    assert outcome.models[0].digest == run(server_class, three_steps).models[0].digest
    loads = [operation.kind for operation in outcome.models[0].applied].count("load_state")
    assert loads == 1


@pytest.mark.parametrize(
    ("options", "said", "known"),
    [
        ({"server_class": "ordered"}, "dedup", (ServerClass.ORDERED, "as configured")),
        ({}, "none", (ServerClass.NONE, "as the server says")),
        ({}, "of a later day", None),
        ({}, None, None),
        (
            {"base_url": "https://tinker.thinkingmachines.dev/x"},
            None,
            (ServerClass.DEDUP, "it is the hosted service"),
        ),
        ({"base_url": "https://notthinkingmachines.dev"}, None, None),
    ],
)
def test_a_server_is_recognised(options: dict[str, Any], said: str | None, known: Any):
    config = Config.load(**{"base_url": "https://server", "api_key": "tml-x", "environ": {}} | options)
    assert of_server(config, ClientConfig(server_class=said)) == known


@pytest.mark.parametrize(
    ("session_id", "model_id", "server_class"),
    [
        ("session_0123abcd", "model_0123abcd", ServerClass.DEDUP),
        ("session_0123abcd", "mdl_0123abcd", None),
        ("session_0123abcd", "model_0123abcd0", None),
        ("tinker-sess-0123", "mdl_0123", None),
    ],
)
def test_a_server_is_recognised_by_its_ids(session_id: str, model_id: str, server_class: ServerClass | None):
    known = of_ids(session_id, model_id)
    assert (known and known[0]) == server_class
