"""Custom losses over the wire: uploaded once, used by the models of their session, with true gradients."""

from __future__ import annotations

import math
from typing import Any

from tests.local.engine.test_custom_loss import Tracer, ref
from tests.local.harness import PROTOBUF, Answer, Caller, Stage, datum, play
from tinker_actors.codec.forward_backward import encode_forward_backward_request
from tinker_actors.types import Datum, ForwardBackwardRequest, ModelInput


def weighted(sign: str = "operator.neg") -> dict[str, Any]:
    """What cross_entropy is, with a metric of the tokens' probabilities."""
    t = Tracer("logprobs", "weights")
    total = t.call("torch.sum", t.call("operator.mul", ref("logprobs"), ref("weights")))
    chance = t.call("torch.mean", t.call("torch.exp", ref("logprobs")))
    return t.end(t.call(sign, total), {"custom/chance:mean": chance})


def body(session_id: str, graph: Any, number: int = 0) -> dict[str, Any]:
    inputs = [{"name": "logprobs", "rank": 1}, {"name": "weights", "rank": 1}]
    return {
        "session_id": session_id,
        "custom_loss_seq_id": number,
        "name": "mine",
        "inputs": inputs,
        "graph": graph,
        "type": "create_custom_loss",
    }


async def create(caller: Caller, session_id: str, graph: Any = None, number: int = 0) -> str:
    answer = await caller.post("/create_custom_loss", body(session_id, graph or weighted(), number))
    return (await caller.result(answer.ok["request_id"]))["loss_id"]


async def train(caller: Caller, model_id: str, seq_id: int, loss_id: str, data: tuple[Datum, ...]) -> Answer:
    request = ForwardBackwardRequest(
        model_id=model_id, seq_id=seq_id, data=data, loss_fn="custom", loss_fn_config={"loss_id": loss_id}
    )
    content = b"".join(encode_forward_backward_request(request))
    return await caller.post("/forward_backward", content, content_type=PROTOBUF)


def test_an_uploaded_loss_trains_as_the_one_that_it_is() -> None:
    async def scenario(stage: Stage) -> None:
        caller = stage.caller
        session_id = await caller.session()
        mine, theirs = await caller.start_model(session_id, 0), await caller.start_model(session_id, 1)
        loss_id = await create(caller, session_id)
        data = (datum(1), datum(2))
        for step in range(4):
            first = await train(caller, mine, 2 * step + 1, loss_id, data)
            second = await caller.forward_backward(theirs, 2 * step + 1, data)
            custom = await caller.output(first.ok["request_id"])
            expected = await caller.output(second.ok["request_id"])
            assert math.isclose(custom.metrics["loss:sum"], expected.metrics["loss:sum"], rel_tol=1e-6)
            chances = [sum(map(math.exp, out["logprobs"].to_numpy())) / 5 for out in custom.loss_fn_outputs]
            assert math.isclose(custom.metrics["custom/chance:mean"], sum(chances) / 2, rel_tol=1e-6)
            for ours, their in zip(custom.loss_fn_outputs, expected.loss_fn_outputs, strict=True):
                assert abs(ours["logprobs"].to_numpy() - their["logprobs"].to_numpy()).max() < 1e-4
            for model_id in (mine, theirs):
                await caller.result((await caller.optim_step(model_id, 2 * step + 2, 0.05)).ok["request_id"])
        assert custom.metrics["loss:sum"] < 20.0 < 4 * custom.metrics["loss:sum"]
        assert await caller.applied(mine) == await caller.applied(theirs)

    play(scenario)


def test_a_loss_that_is_asked_for_again_is_the_same_one() -> None:
    async def scenario(stage: Stage) -> None:
        caller = stage.caller
        session_id = await caller.session()
        first = await caller.post("/create_custom_loss", body(session_id, weighted()))
        again = await caller.post("/create_custom_loss", body(session_id, weighted()))
        assert again.ok == first.ok
        answer = await caller.post("/create_custom_loss", body(session_id, weighted("torch.abs")))
        assert (answer.status, answer.detail.split(":")[0]) == (400, "custom_loss_seq_id")
        assert await create(caller, session_id, weighted("torch.abs"), 1) == f"{session_id}:loss:1"
        config = (await caller.post("/client/config", {})).ok
        assert config["custom_loss_server_side"] is True

    play(scenario, custom_loss_server_side=True)


def test_a_loss_is_its_sessions() -> None:
    async def scenario(stage: Stage) -> None:
        caller, other = stage.caller, Caller(stage.network.transport(), key="tml-other")
        session_id, second = await caller.session(), await caller.session()
        model_id, elsewhere = await caller.start_model(session_id), await caller.start_model(second)
        loss_id = await create(caller, session_id)
        for wrong in (loss_id + "1", "none", f"{second}:loss:0"):
            answer = await train(caller, model_id, 1, wrong, (datum(1),))
            assert (answer.status, answer.detail.split(":")[0]) == (400, "loss_fn_config['loss_id']")
        answer = await train(caller, elsewhere, 1, loss_id, (datum(1),))
        assert (answer.status, answer.detail.split(":")[0]) == (400, "loss_fn_config['loss_id']")
        answer = await caller.forward_backward(model_id, 1, loss_fn="custom")
        assert (answer.status, answer.detail.split(":")[0]) == (400, "loss_fn_config")
        assert (await other.post("/create_custom_loss", body(session_id, weighted()))).status == 404
        assert (await caller.post("/create_custom_loss", body("none", weighted()))).status == 404
        assert (await caller.post("/create_custom_loss", body(session_id, {}, 1))).status == 400
        assert (await caller.post("/create_custom_loss", body(session_id, weighted(), -1))).status == 400
        answer = await caller.post("/create_custom_loss", body(session_id, weighted("os.system"), 1))
        assert (answer.status, answer.detail.partition(":")[0]) == (400, "graph")
        await caller.output((await train(caller, model_id, 1, loss_id, (datum(1),))).ok["request_id"])
        await caller.post(f"/sessions/{session_id}/finish", {"reason": {"type": "success"}, "detail": None})
        assert (await caller.post("/create_custom_loss", body(session_id, weighted(), 2))).status == 410

    play(scenario)


def test_data_that_a_loss_has_no_use_for() -> None:
    async def scenario(stage: Stage) -> None:
        caller = stage.caller
        session_id = await caller.session()
        model_id = await caller.start_model(session_id)
        loss_id = await create(caller, session_id)
        good = datum(1)
        targets = good.loss_fn_inputs["target_tokens"]
        for inputs, words in (
            ({"target_tokens": targets}, "'weights'"),
            ({"target_tokens": targets, "weights": [1.0, math.nan, 1.0, 1.0, 1.0]}, "not finite"),
        ):
            answer = await train(caller, model_id, 1, loss_id, (good, Datum(good.model_input, inputs)))
            assert answer.status == 400
            assert "data[1]" in answer.detail
            assert words in answer.detail
        # what only shows when it is computed fails the operation, and nothing has changed
        t = Tracer("logprobs", "weights")
        square = t.call("torch.reshape", ref("logprobs"), {"tuple": [5, 1]})
        five = await create(caller, session_id, t.end(t.call("torch.sum", square)), 1)
        short = Datum(ModelInput.from_ints([1, 2]), {"target_tokens": [2, 3], "weights": [1.0, 2.0]})
        digest = await caller.digest(model_id)
        failed = await caller.result((await train(caller, model_id, 1, five, (good, short))).ok["request_id"])
        assert failed["category"] == "user"
        assert "torch.reshape can't be done at node" in failed["error"]
        assert await caller.digest(model_id) == digest
        # what it does not read it does not mind
        extra = Datum(good.model_input, {**good.loss_fn_inputs, "advantages": [1.0] * 5})
        one = await caller.output((await train(caller, model_id, 2, loss_id, (good,))).ok["request_id"])
        two = await caller.output((await train(caller, model_id, 3, loss_id, (extra,))).ok["request_id"])
        assert one.metrics == two.metrics
        huge = weighted()
        node = {"op": "call_function", "target": "torch.exp", "args": [ref("logprobs")]}
        huge["nodes"][2:2] = [node | {"name": f"e{number}"} for number in range(2_000)]
        answer = await caller.post("/create_custom_loss", body(session_id, huge, 2))
        assert (answer.status, "nodes" in answer.detail) == (400, True)

    play(scenario)
