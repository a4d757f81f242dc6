"""A neighbour never changes a result: what is asked alone and what is asked in company are the same bits."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from tests.local.harness import PROTOBUF, Caller, Stage, datum, play, sample_body
from tinker_actors.local.engine.sampling import SLOTS
from tinker_actors.local.owners import Owner


async def sampled(caller: Caller, request_id: str) -> bytes:
    answer = await caller.wait(request_id, accept=PROTOBUF)
    assert answer.headers["content-type"] == PROTOBUF
    return answer.content


def target(sampler: str, seq_id: int) -> Any:
    body = sample_body(sampler, seq_id, seed=11)
    body["sampling_params"]["max_tokens"] = 12
    return body


@pytest.mark.parametrize("slot", sorted({*range(0, SLOTS, 9), 5, SLOTS - 1}))
def test_a_sample_at_every_place_of_a_full_batch(slot: int) -> None:
    async def scenario(stage: Stage, before: int, behind: int) -> bytes:
        caller = stage.caller
        model_id = await caller.model()
        await caller.train(model_id, 1)
        sampler = (await caller.save_sampler(model_id, 5, sampling_session_seq_id=0))["sampling_session_id"]

        async def neighbours(first: int, count: int) -> None:
            for number in range(first, first + count):
                body = sample_body(sampler, 100 + number, seed=number)
                body["prompt"]["chunks"][0]["tokens"] = [3 + number % 20] * (1 + number % 30)
                body["sampling_params"]["max_tokens"] = 1 + number % 20
                assert (await caller.post("/asample", body)).status == 200

        async with stage.service.turns.turn(Owner("somebody"), "busy"):  # so that all are one batch
            await neighbours(0, before)
            promise = (await caller.post("/asample", target(sampler, 0))).ok["request_id"]
            await neighbours(before, behind)
            assert len(stage.service.samples) == before + 1 + behind
        return await sampled(caller, promise)

    alone = play(lambda stage: scenario(stage, 0, 0))
    assert play(lambda stage: scenario(stage, slot, SLOTS - slot + 4)) == alone


def test_whoever_trains_and_samples_beside_one() -> None:
    async def mine(caller: Caller) -> list[object]:
        model_id = await caller.model()
        losses = await caller.train(model_id, 1, 4)
        sampler = (await caller.save_sampler(model_id, 9, sampling_session_seq_id=0))["sampling_session_id"]
        found: list[object] = [losses, await caller.digest(model_id)]
        for seq_id in range(4):
            promise = (await caller.post("/asample", target(sampler, seq_id))).ok["request_id"]
            found.append(await sampled(caller, promise))
        return found

    async def theirs(caller: Caller, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        session_id = await caller.session()
        model_id = await caller.start_model(session_id, seed=99)
        sampler = await caller.sampler(session_id, model_path=None, base_model="tinker-actors/tiny")
        task_status.started()
        for number in range(200):
            await caller.forward_backward(model_id, 2 * number + 1, (datum(number), datum(number + 1)))
            await caller.optim_step(model_id, 2 * number + 2)
            await caller.post("/asample", sample_body(sampler, number, seed=number, num_samples=20))

    async def together(stage: Stage) -> list[object]:
        async with trio.open_nursery() as nursery:
            for number in range(3):
                await nursery.start(theirs, stage.other(f"tml-{number}"))
            found = await mine(stage.caller)
            nursery.cancel_scope.cancel()
        return found

    async def alone(stage: Stage) -> list[object]:
        return await mine(stage.caller)

    assert play(together, max_models_in_memory=2, max_snapshots_in_memory=1) == play(alone)
