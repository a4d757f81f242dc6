"""What one owner may have at a time, and how one more is refused."""

import pytest
import trio

from tests.local.harness import Stage, create_body, datum, play
from tinker_actors.types import Datum, ModelInput


def test_sessions_of_an_owner() -> None:
    async def scenario(stage: Stage) -> None:
        body = {"tags": [], "user_metadata": {}, "sdk_version": "0.38.0"}
        statuses: list[int] = []

        async def create() -> None:
            answer = await stage.other().post("/create_session", body)
            statuses.append(answer.status)
            if answer.status == 403:
                assert "max_sessions_per_owner" in answer.detail
                assert "allows 2" in answer.detail

        async with trio.open_nursery() as nursery:  # at once: none slips by while others are made
            for _ in range(5):
                nursery.start_soon(create)
        assert sorted(statuses) == [200, 200, 403, 403, 403]
        first = await stage.caller.session()  # another owner's
        await stage.caller.session()
        finish = {"reason": {"type": "success"}, "detail": None}
        assert (await stage.caller.post("/create_session", body)).status == 403
        await stage.caller.post(f"/sessions/{first}/finish", finish)
        await stage.caller.session()
        await trio.sleep(601.0)  # silent ones end
        await stage.caller.session()
        await stage.caller.session()

    play(scenario, max_sessions_per_owner=2)


@pytest.mark.parametrize("limit", ["max_models_per_session", "max_models_per_owner"])
def test_models_of_a_session_or_owner(limit: str) -> None:
    async def scenario(stage: Stage) -> None:
        caller = stage.caller
        session_id, second = await caller.session(), await caller.session()
        first = await caller.start_model(session_id, 0)
        await caller.start_model(session_id, 1)
        refused = await caller.post("/create_model", create_body(session_id, 2))
        assert refused.status == 403
        assert limit in refused.detail
        # asked again, one that there is is the same
        assert (await caller.post("/create_model", create_body(session_id, 1))).ok["model_id"].endswith(":1")
        elsewhere = await caller.post("/create_model", create_body(second, 0))
        assert elsewhere.status == (200 if limit == "max_models_per_session" else 403)
        await stage.other().model()
        await caller.result((await caller.post("/unload_model", {"model_id": first})).ok["request_id"])
        await caller.start_model(session_id, 2)

    play(scenario, **{limit: 2})


def test_tokens_of_a_request() -> None:
    async def scenario(stage: Stage) -> None:
        caller = stage.caller
        model_id = await caller.model()
        refused = await caller.forward_backward(model_id, 1, (datum(1), datum(2), datum(3)))
        assert refused.status == 400
        assert "holds 15 tokens in all. Give at most 14" in refused.detail
        # nothing was queued, and the number is free
        promise = (await caller.forward_backward(model_id, 1, (datum(1), datum(2)))).ok
        await caller.output(promise["request_id"])
        assert await caller.applied(model_id) == [(1, "forward_backward")]

    play(scenario, max_tokens_per_request=14)


def test_a_datum_longer_than_the_context() -> None:
    async def scenario(stage: Stage) -> None:
        model_id = await stage.caller.model()
        context = stage.service.bases["tinker-actors/tiny"].config.max_context
        long = [3] * (context + 1)
        inputs = {"target_tokens": long, "weights": [1.0] * len(long)}
        refused = await stage.caller.forward_backward(model_id, 1, (Datum(ModelInput.from_ints(long), inputs),))
        assert refused.status == 400
        assert f"data[0].model_input: has {context + 1} tokens" in refused.detail

    play(scenario)


def test_a_rank_above_the_limit() -> None:
    async def scenario(stage: Stage) -> None:
        session_id = await stage.caller.session()
        refused = await stage.caller.post("/create_model", create_body(session_id, 0, rank=9))
        assert refused.status == 400
        assert "Use a rank of at most 8" in refused.detail
        await stage.caller.start_model(session_id, 0, rank=8)

    play(scenario, max_rank=8)
