"""A server that refuses what is out of order, as its user sees it: any other's results, or an error that helps."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from tests.clients.scenario import batch
from tests.clients.test_epochs import STEP, steps
from tests.clients.test_server_classes import run
from tinker_actors.clients import ServiceClient, TrainingClient
from tinker_actors.errors import LaneStopped, ModelLost
from tinker_actors.server_class import ServerClass
from tinker_actors.testing.faults import CrashAt, DropAfter, DropBefore, Duplicate, Fault, Reorder, Reset, Truncate
from tinker_actors.testing.operations import (
    Await,
    CustomLoss,
    ForwardBackward,
    LoadState,
    OptimStep,
    Program,
    ProgramResults,
    Sample,
    SaveState,
    SaveWeightsForSampler,
    run_program,
)
from tinker_actors.testing.oracle import expected
from tinker_actors.testing.simulation import World

PROGRAM = Program(
    steps=(
        ForwardBackward(seeds=(1, 2, 3)),
        OptimStep(),
        SaveState(),
        Sample(seed=3),
        CustomLoss(seeds=(4, 5)),
        OptimStep(),
        SaveWeightsForSampler(),
        LoadState(place=2, optimizer=True),
        ForwardBackward(seeds=(6,)),
        OptimStep(),
        Await(),
        Sample(seed=4),
    )
)
PATHS = (
    "/forward_backward",
    "/optim_step",
    "/save_weights",
    "/save_weights_for_sampler",
    "/load_weights",
    "/asample",
    "/retrieve_future",
)
KINDS = (DropBefore, DropAfter, Reset, Truncate, Duplicate, Reorder)


@pytest.mark.parametrize("path", PATHS)
def test_whatever_is_lost_the_results_are_those_of_any_server(path: str) -> None:
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> ProgramResults:
        results = await run_program(PROGRAM, client)
        assert service.server_class is ServerClass.ORDERED
        return results

    truth = expected(PROGRAM)
    for kind in KINDS:
        faults: tuple[Fault, ...] = (kind(path=path), CrashAt(point="training.sent", nth=3))
        outcome = run(ServerClass.ORDERED, story, *faults, tells=False, fwdbwd_max_chunk_len=2)
        assert len(outcome.fired) == 2
        assert outcome.value == truth.results, kind
        assert outcome.models[0].digest == truth.digest, kind
        assert outcome.left == ()


@pytest.mark.parametrize("arrived", [True, False])
def test_without_recovery_a_reply_that_is_lost_is_an_error_only_where_the_request_had_arrived(
    arrived: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> Any:
        await steps(client, 1)
        forward = await client.forward_backward(batch(2, 3, 4))
        update = await client.optim_step(STEP)
        if not arrived:
            await update
            return [operation.kind for operation in world.service.applied(client.model_id)]
        await forward
        with pytest.raises(ModelLost, match=r"has had it before.*expected 6, not 5.*load the last checkpoint"):
            await update
        with pytest.raises(LaneStopped, match=r"optim_step was not accepted.*has had it before"):
            await client.optim_step(STEP)
        return [operation.kind for operation in world.service.applied(client.model_id)]

    caplog.set_level(logging.INFO)
    fault = (DropAfter if arrived else DropBefore)(path="/optim_step", nth=2)
    outcome = run(ServerClass.ORDERED, story, fault, recovery=None, tells=False)
    assert [fired.fault for fired in outcome.fired] == [fault]
    assert outcome.value == ["forward", *["forward_backward", "optim_step"] * 2]  # nothing twice; the first shows it
    assert "the server of session session-0 is of class ordered: it refuses a repeated request" in caplog.text
