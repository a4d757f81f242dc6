from __future__ import annotations

import pytest
import trio

from tests.local.harness import PROTOBUF, Stage, datum, play
from tinker_actors.codec.samples import decode_sample_response
from tinker_actors.errors import APITimeoutError


def test_a_poll_is_held_until_the_result_is_there():
    async def scenario(stage: Stage) -> None:
        caller = stage.caller
        model_id = await caller.model()
        early = (await caller.optim_step(model_id, 2)).ok["request_id"]

        async def fill() -> None:
            await trio.sleep(7.0)
            await caller.forward_backward(model_id, 1)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(fill)
            began = trio.current_time()
            answer = await caller.poll(early)
            assert "metrics" in answer.ok
            assert 7.0 < trio.current_time() - began < 8.0

    play(scenario, poll_hold=20.0)


def test_a_poll_is_answered_try_again_after_the_hold():
    async def scenario(stage: Stage) -> None:
        model_id = await stage.caller.model()
        early = (await stage.caller.optim_step(model_id, 2)).ok["request_id"]
        began = trio.current_time()
        answer = (await stage.caller.poll(early)).ok
        assert (answer["type"], answer["request_id"]) == ("try_again", early)
        assert trio.current_time() - began == pytest.approx(12.0, abs=0.1)

    play(scenario, poll_hold=12.0)


def test_a_poller_that_gives_up_takes_nothing_away():
    async def scenario(stage: Stage) -> None:
        caller = stage.caller
        model_id = await caller.model()
        early = (await caller.optim_step(model_id, 2)).ok["request_id"]
        with pytest.raises(APITimeoutError):
            await caller.send("POST", "/retrieve_future", {"request_id": early}, timeout=1.0)
        await caller.forward_backward(model_id, 1)
        first = (await caller.wait(early)).content
        assert (await caller.wait(early)).content == first

    play(scenario)


def test_forward_backward_and_sample_results_come_as_the_asker_accepts_them():
    async def scenario(stage: Stage) -> None:
        caller = stage.caller
        session_id = await caller.session()
        model_id = await caller.start_model(session_id)
        request_id = (await caller.forward_backward(model_id, 1, (datum(1), datum(2)))).ok["request_id"]
        output = await caller.output(request_id)
        plain = await caller.result(request_id)
        assert len(output.loss_fn_outputs) == len(plain["loss_fn_outputs"]) == 2
        assert output.metrics["loss:sum"] == plain["metrics"]["loss:sum"]
        assert output.loss_fn_outputs[1]["logprobs"].tolist() == plain["loss_fn_outputs"][1]["logprobs"]["data"]
        both = await caller.wait(request_id, accept=f"{PROTOBUF}, application/json")
        assert both.headers["content-type"] == PROTOBUF

        sampler = await caller.sampler(session_id)
        sampled = await caller.sample(sampler)
        body = await caller.post("/asample", _sample(sampler))
        answer = await caller.wait(body.ok["request_id"], accept=PROTOBUF)
        response = decode_sample_response(answer.content)
        assert response.sequences[0].tokens.tolist() == sampled["sequences"][0]["tokens"]
        assert response.prompt_logprobs is not None
        assert len(response.prompt_logprobs) == 3

        step = (await caller.optim_step(model_id, 2)).ok["request_id"]
        assert (await caller.wait(step, accept=PROTOBUF)).headers["content-type"] == "application/json"

    play(scenario)


def _sample(sampler: str) -> object:
    from tests.local.harness import sample_body

    return sample_body(sampler, 0)


def test_an_operation_that_fails_says_so_and_whose_fault_it_was():
    async def scenario(stage: Stage) -> None:
        caller = stage.caller
        model_id = await caller.model()
        body = {"model_id": model_id, "seq_id": 1, "path": f"tinker://{model_id}/weights/none", "optimizer": True}
        request_id = (await caller.post("/load_weights", body)).ok["request_id"]
        for accept in ("application/json", PROTOBUF):
            failure = (await caller.wait(request_id, accept=accept)).ok
            assert failure["category"] == "user"
            assert "there is no checkpoint" in failure["error"]
        await caller.train(model_id, 2)
        assert await caller.applied(model_id) == [
            (2, "forward_backward"),
            (3, "optim_step"),
            (4, "forward_backward"),
            (5, "optim_step"),
        ]

    play(scenario)


def test_unknown_forgotten_and_earlier_promises():
    async def scenario(stage: Stage) -> str:
        caller = stage.caller
        model_id = await caller.model()
        request_id = (await caller.forward_backward(model_id, 1)).ok["request_id"]
        await caller.result(request_id)
        prefix, _, number = request_id.rpartition("-")
        for unknown in ("", "what", f"{prefix}-{int(number) + 1}", f"{prefix}-0", "req-zzzzzzzz-1"):
            answer = await caller.poll(unknown)
            assert answer.status == 404, unknown
            assert "request_id" in answer.detail
        answer = await caller.poll(f"req-00000000-{request_id.split('-')[2]}-1")
        assert answer.status == 410
        assert "restarted" in answer.detail
        await trio.sleep(101.0)
        answer = await caller.poll(request_id)
        assert answer.status == 410
        assert "100 s" in answer.detail
        return request_id

    assert play(scenario, seed=1, result_retention=100.0) != play(scenario, seed=2, result_retention=100.0)


def test_a_result_that_nobody_asked_for_is_kept_as_long():
    async def scenario(stage: Stage) -> None:
        model_id = await stage.caller.model()
        request_id = (await stage.caller.forward_backward(model_id, 1)).ok["request_id"]
        await trio.sleep(95.0)
        await stage.caller.model()
        assert "metrics" in await stage.caller.result(request_id)

    play(scenario, result_retention=100.0)


def test_large_results_are_announced_by_their_size():
    async def scenario(stage: Stage) -> None:
        caller = stage.caller
        model_id = await caller.model()
        request_id = (await caller.forward_backward(model_id, 1)).ok["request_id"]
        await caller.result(request_id)
        announced = (await caller.poll(request_id, accept=PROTOBUF, metadata=True)).ok
        whole = await caller.poll(request_id, accept=PROTOBUF)
        assert announced == {"status": "complete_metadata", "response_payload_size": len(whole.content)}
        small = (await caller.optim_step(model_id, 2)).ok["request_id"]
        await caller.result(small)
        assert "metrics" in (await caller.poll(small, metadata=True)).ok

    play(scenario, metadata_only_above=100)


def test_results_are_freed_after_their_retention_though_their_seq_ids_are_remembered():
    import gc
    import weakref

    from tinker_actors.types import ForwardBackwardOutput

    async def scenario(stage: Stage) -> None:
        caller = stage.caller
        model_id = await caller.model()
        request_id = (await caller.forward_backward(model_id, 1)).ok["request_id"]
        await caller.result(request_id)
        result = stage.service.futures.find(stage.owner, request_id).result
        assert isinstance(result, ForwardBackwardOutput)
        array = weakref.ref(result.loss_fn_outputs[0]["logprobs"].to_numpy())
        del result
        gc.collect()
        assert array() is not None
        await trio.sleep(101.0)
        assert (await caller.forward_backward(model_id, 1)).ok["request_id"] == request_id
        assert (await caller.poll(request_id)).status == 410
        gc.collect()
        assert array() is None
        assert await caller.applied(model_id) == [(1, "forward_backward")]

    play(scenario, result_retention=100.0)
