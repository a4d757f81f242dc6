"""Which losses are made good: those that the policy names, each told from the others."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from tests.clients.test_epochs import POLICY, lose_model, lose_session, rebuilt, run, steps
from tinker_actors.clients import ServiceClient, TrainingClient
from tinker_actors.clients.training.events import ModelGivenUp
from tinker_actors.config import TRIGGERS, RecoveryPolicy
from tinker_actors.errors import LaneStopped, ModelLost
from tinker_actors.sessions import SessionState
from tinker_actors.testing.faults import Fault, Status
from tinker_actors.testing.operations import BASE_MODEL
from tinker_actors.testing.simulation import Outcome, World


async def corrupt(world: World, client: TrainingClient) -> None:
    world.service.models[client.model_id].corrupted = "its weights were damaged by hand"
    await trio.lowlevel.checkpoint()


LOSSES = {"session_lost": lose_session, "model_lost": lose_model, "run_corrupted": corrupt}
PROMISE = Status(path="/retrieve_future", nth=3, status=410)


def but(*without: str, **fields: Any) -> RecoveryPolicy:
    return RecoveryPolicy(triggers=[trigger for trigger in TRIGGERS if trigger not in without], **fields)


def story_of(trigger: str) -> Any:
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> list[float]:
        losses = await steps(client, 1)
        if trigger in LOSSES:
            await LOSSES[trigger](world, client)
        return losses + await steps(client, 2)

    return story


def faults(trigger: str) -> list[Fault]:
    return [PROMISE] if trigger == "promise_lost" else []


def given_up(outcome: Outcome[Any]) -> list[str]:
    return [event.trigger for event in outcome.events if isinstance(event, ModelGivenUp)]


@pytest.mark.parametrize("trigger", [*LOSSES, "promise_lost"])
def test_what_the_policy_names_is_made_good_and_alone(trigger: str):
    calm = run(story_of("nothing"))
    broken = run(story_of(trigger), *faults(trigger), recovery=RecoveryPolicy(triggers=[trigger]))

    assert broken.value == calm.value
    assert broken.models[0].digest == calm.models[0].digest
    assert len(rebuilt(broken)) == 1
    assert given_up(broken) == []


@pytest.mark.parametrize("policy", [but, lambda trigger: POLICY], ids=["unnamed", "named"])
@pytest.mark.parametrize("trigger", [*LOSSES, "promise_lost"])
def test_what_the_policy_does_not_name_is_an_error_that_says_what_it_was(trigger: str, policy: Any):
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> str:
        try:
            await story_of(trigger)(world, service, client)
        except Exception as error:
            return type(error).__name__
        return "no error"

    outcome = run(story, *faults(trigger), recovery=policy(trigger))

    if policy is not but:
        assert outcome.value == "no error"
    elif trigger == "run_corrupted":
        assert outcome.value == "RequestFailedError"  # of this operation; the server may take the next
    else:
        assert outcome.value in ("ModelLost", "LaneStopped")
        assert given_up(outcome) == [trigger]
    assert len(rebuilt(outcome)) == (policy is not but)


def test_a_session_that_is_not_to_be_renewed_is_lost():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> SessionState:
        await lose_session(world, client)
        with pytest.raises((ModelLost, LaneStopped)):
            await steps(client, 1)
        return service.state

    assert run(story, recovery=but("session_lost")).value is SessionState.LOST


def test_without_replay_the_client_is_over_and_its_session_is_renewed():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> SessionState:
        await lose_session(world, client)
        with pytest.raises(ModelLost, match="has ended session"):
            await steps(client, 1)
        assert await steps(await service.create_lora_training_client(BASE_MODEL), 1)
        return service.state

    outcome = run(story, recovery=RecoveryPolicy(replay=False))
    assert outcome.value is SessionState.ACTIVE
    assert (rebuilt(outcome), given_up(outcome)) == ([], ["session_lost"])


def test_a_corrupted_run_costs_no_operation():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> list[float]:
        losses = await steps(client, 1)
        await corrupt(world, client)
        return losses + await steps(client, 2, 3)

    (event,) = rebuilt(run(story))
    assert "corrupted" in event.cause
    assert (event.checkpoint, event.replays) == (None, 2)
    assert event.lost != event.model_id
