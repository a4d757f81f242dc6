"""What SDKs up to 0.24 send: training in JSON, /forward of its own, results in JSON."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from tests.local.harness import Stage, datum, play
from tinker_actors.codec.forward_backward_json import encode_forward_backward_json
from tinker_actors.types import ForwardBackwardRequest


def body(model_id: str, seq_id: int, *, forward_only: bool = False) -> bytes:
    request = ForwardBackwardRequest(
        model_id=model_id, seq_id=seq_id, data=(datum(1),), loss_fn="cross_entropy", forward_only=forward_only
    )
    return encode_forward_backward_json(request)


def test_training_in_json_is_the_same_training() -> None:
    async def scenario(stage: Stage) -> None:
        caller = stage.caller
        session_id = await caller.session()
        new, old = await caller.start_model(session_id, 0), await caller.start_model(session_id, 1)
        expected = await caller.output((await caller.forward_backward(new, 1)).ok["request_id"])
        promise = (await caller.post("/forward_backward", body(old, 1))).ok
        assert promise["model_id"] == old
        result = await caller.result(promise["request_id"])
        assert result["metrics"]["loss:sum"] == expected.metrics["loss:sum"]
        (record,) = result["loss_fn_outputs"]
        logprobs = expected.loss_fn_outputs[0]["logprobs"].to_numpy()
        assert record["logprobs"]["data"] == pytest.approx(logprobs.tolist(), abs=0.0)
        assert record["logprobs"]["dtype"] == "float32"
        await caller.result((await caller.optim_step(new, 2)).ok["request_id"])
        await caller.result((await caller.optim_step(old, 2)).ok["request_id"])
        assert await caller.digest(old) == await caller.digest(new)

    play(scenario)


def test_forward_gives_the_losses_and_no_gradients() -> None:
    async def scenario(stage: Stage) -> None:
        caller = stage.caller
        session_id = await caller.session()
        model_id, twin = await caller.start_model(session_id, 0), await caller.start_model(session_id, 1)
        promise = (await caller.post("/forward", body(model_id, 1, forward_only=True))).ok
        forward = await caller.result(promise["request_id"])
        assert (await caller.post("/forward", body(model_id, 1, forward_only=True))).ok == promise
        backward = await caller.result((await caller.post("/forward_backward", body(twin, 1))).ok["request_id"])
        assert forward["metrics"]["loss:sum"] == backward["metrics"]["loss:sum"] > 1.0
        for model in (model_id, twin):
            await caller.result((await caller.optim_step(model, 2)).ok["request_id"])
        assert await caller.digest(model_id) != await caller.digest(twin)
        assert [kind for _, kind in await caller.applied(model_id)] == ["forward", "optim_step"]

    play(scenario)


def without(given: bytes, key: str) -> Any:
    return {name: value for name, value in msgspec.json.decode(given).items() if name != key}


def test_training_in_json_that_can_not_be() -> None:
    async def scenario(stage: Stage) -> None:
        caller = stage.caller
        model_id = await caller.model()
        answer = await caller.post("/forward", body(model_id, 1))
        assert answer.status == 400
        assert answer.detail.startswith("forward_input: is missing")
        assert (
            await caller.post("/forward", without(body(model_id, 1, forward_only=True), "forward_input"))
        ).status == 422
        answer = await caller.post("/forward_backward", without(body(model_id, 1), "seq_id"))
        assert (answer.status, answer.detail.split(":")[0]) == (400, "seq_id")
        unknown = await caller.post("/forward", body("none:train:0", 1, forward_only=True))
        assert unknown.status == 404
        assert await caller.applied(model_id) == []
        await caller.result((await caller.post("/forward_backward", body(model_id, 1))).ok["request_id"])

    play(scenario)
