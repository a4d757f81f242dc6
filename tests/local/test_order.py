from __future__ import annotations

import random

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from tests.local.harness import PROTOBUF, Stage, datum, play
from tinker_actors.codec.forward_backward import encode_forward_backward_request
from tinker_actors.types import ForwardBackwardRequest

SIX = ("forward_backward", "optim_step", "forward", "forward_backward", "optim_step", "save_state")
KINDS = dict(enumerate(SIX, 1))


async def submit(stage: Stage, model_id: str, seq_id: int) -> str:
    caller = stage.caller
    match KINDS[seq_id]:
        case "optim_step":
            answer = await caller.optim_step(model_id, seq_id)
        case "save_state":
            answer = await caller.post("/save_weights", {"model_id": model_id, "seq_id": seq_id, "path": "end"})
        case kind:
            answer = await caller.forward_backward(model_id, seq_id, (datum(seq_id),), forward_only=kind == "forward")
    return answer.ok["request_id"]


def run_in(order: list[int], *, seed: int) -> tuple[str, list[tuple[int, str]]]:
    async def scenario(stage: Stage) -> tuple[str, list[tuple[int, str]]]:
        model_id = await stage.caller.model()
        ids = [await submit(stage, model_id, seq_id) for seq_id in order]
        for request_id in ids:
            assert "error" not in await stage.caller.result(request_id)
        return await stage.caller.digest(model_id), await stage.caller.applied(model_id)

    return play(scenario, seed=seed)


@given(order=st.permutations(list(KINDS)), seed=st.integers(0, 99))
def test_operations_take_effect_in_seq_id_order_whatever_the_order_of_arrival(order: list[int], seed: int):
    digest, applied = run_in(order, seed=seed)

    assert applied == list(KINDS.items())
    assert digest == run_in(list(KINDS), seed=1)[0]


def test_requests_under_way_at_once_take_effect_in_seq_id_order():
    async def scenario(stage: Stage) -> tuple[str, list[tuple[int, str]]]:
        model_id = await stage.caller.model()
        async with trio.open_nursery() as nursery:
            for seq_id in KINDS:
                nursery.start_soon(submit, stage, model_id, seq_id)
        await trio.sleep(10)
        return await stage.caller.digest(model_id), await stage.caller.applied(model_id)

    expected = run_in(list(KINDS), seed=1)
    assert all(play(scenario, seed=seed) == expected for seed in range(10))


def test_an_early_arrival_waits_and_says_for_what():
    async def scenario(stage: Stage) -> None:
        caller = stage.caller
        model_id = await caller.model()
        early = (await caller.optim_step(model_id, 3)).ok
        answer = (await caller.poll(early["request_id"])).ok
        assert answer["type"] == "try_again"
        assert answer["queue_state"] == "paused_capacity"
        assert "seq_id 1" in answer["queue_state_reason"]
        await caller.forward_backward(model_id, 1)
        answer = (await caller.poll(early["request_id"])).ok
        assert "seq_id 2" in answer["queue_state_reason"]
        (model,) = (await caller.get("/local/queue")).ok["models"]
        assert (model["next_seq_id"], model["early"]) == (2, [3])
        await caller.forward_backward(model_id, 2, forward_only=True)
        assert "metrics" in await caller.result(early["request_id"])

    play(scenario)


def test_the_seq_id_of_a_refused_request_is_filled_by_a_forward_only_one():
    async def scenario(stage: Stage) -> None:
        caller = stage.caller
        model_id = await caller.model()
        await caller.forward_backward(model_id, 1)
        refused = await caller.forward_backward(model_id, 2, loss_fn="no_such_loss")
        assert refused.status == 400
        assert "no_such_loss" in refused.detail
        step = (await caller.optim_step(model_id, 3)).ok
        before = await caller.digest(model_id)
        assert (await caller.forward_backward(model_id, 2, forward_only=True)).status == 200
        await caller.result(step["request_id"])
        assert await caller.applied(model_id) == [(1, "forward_backward"), (2, "forward"), (3, "optim_step")]
        assert await caller.digest(model_id) != before

    play(scenario)


def test_models_do_not_wait_for_each_other():
    async def scenario(stage: Stage) -> None:
        caller = stage.caller
        session_id = await caller.session()
        stuck, free = await caller.start_model(session_id, 0), await caller.start_model(session_id, 1)
        await caller.optim_step(stuck, 2)
        await caller.train(free, 1)
        assert await caller.applied(stuck) == []

    play(scenario)


@pytest.mark.parametrize("seq_id", [0, -1])
def test_a_seq_id_below_one_is_refused(seq_id: int):
    async def scenario(stage: Stage) -> None:
        model_id = await stage.caller.model()
        for answer in (
            await stage.caller.forward_backward(model_id, seq_id),
            await stage.caller.optim_step(model_id, seq_id),
        ):
            assert answer.status == 400
            assert "seq_id" in answer.detail

    play(scenario)


def test_the_digest_of_an_operation_is_that_of_the_client_s_side():
    from tinker_actors.codec.digest import operation_digest

    request = ForwardBackwardRequest(model_id="", seq_id=0, data=(datum(4), datum(5)), loss_fn="cross_entropy")

    async def scenario(stage: Stage) -> None:
        model_id = await stage.caller.model()
        import msgspec

        sent = msgspec.structs.replace(request, model_id=model_id, seq_id=1)
        content = b"".join(encode_forward_backward_request(sent))
        promise = (await stage.caller.post("/forward_backward", content, content_type=PROTOBUF)).ok
        await stage.caller.result(promise["request_id"])
        (applied,) = stage.service.applied(model_id)
        assert applied.digest == operation_digest(request)
        assert (applied.model_id, applied.seq_id, applied.kind) == (model_id, 1, "forward_backward")
        assert applied.request_id == promise["request_id"]

    play(scenario)


def test_random_arrival_of_many_chunks():
    async def scenario(stage: Stage) -> list[tuple[int, str]]:
        model_id = await stage.caller.model()
        order = list(range(1, 41))
        random.Random(5).shuffle(order)
        for seq_id in order:
            await stage.caller.forward_backward(model_id, seq_id, (datum(seq_id),))
        await trio.sleep(60)
        return await stage.caller.applied(model_id)

    assert [seq_id for seq_id, _ in play(scenario)] == list(range(1, 41))
