from __future__ import annotations

import trio

from tests.local.harness import TINY, Stage, create_body, play, sample_body


async def beat(stage: Stage, session_id: str) -> int:
    return (await stage.caller.post("/session_heartbeat", {"session_id": session_id})).status


def test_a_silent_session_ends_with_its_models_and_waiting_operations():
    async def scenario(stage: Stage) -> None:
        caller = stage.caller
        session_id = await caller.session()
        model_id = await caller.start_model(session_id)
        await caller.train(model_id, 1)
        digest = await caller.digest(model_id)
        waiting = (await caller.optim_step(model_id, 6)).ok["request_id"]
        await trio.sleep(110.0)
        assert await beat(stage, session_id) == 410
        failure = await caller.result(waiting)
        assert failure["category"] == "user"
        assert "seq_id 5" in failure["error"]
        assert "silent for 100 s" in failure["error"]
        answer = await caller.forward_backward(model_id, 5)
        assert answer.status == 410
        assert "silent" in answer.detail
        answer = await caller.post("/create_model", create_body(session_id, 1))
        assert answer.status == 410
        # its last weights are still known by their digest, and its memory is free
        assert await caller.digest(model_id) == digest
        assert not stage.service.models[model_id].in_engine

    play(scenario, session_expiry=100.0)


def test_any_request_is_a_sign_of_life():
    async def scenario(stage: Stage) -> None:
        caller = stage.caller
        session_id = await caller.session()
        model_id = await caller.start_model(session_id)
        sampler = await caller.sampler(session_id)
        for seq_id in range(1, 4):
            await trio.sleep(80.0)
            await caller.forward_backward(model_id, seq_id)
            await trio.sleep(80.0)
            await caller.sample(sampler, seq_id)
            await trio.sleep(80.0)
            await caller.post("/get_info", {"model_id": model_id})
        assert await beat(stage, session_id) == 200
        await trio.sleep(101.0)
        assert await beat(stage, session_id) == 410

    play(scenario, session_expiry=100.0)


def test_sessions_expire_on_their_own():
    async def scenario(stage: Stage) -> None:
        first, second = await stage.caller.session(), await stage.caller.session()
        for _ in range(3):
            await trio.sleep(60.0)
            assert await beat(stage, second) == 200
        assert await beat(stage, first) == 410

    play(scenario, session_expiry=100.0)


def test_a_finished_session_does_what_it_had_accepted_and_takes_nothing_more():
    async def scenario(stage: Stage) -> None:
        caller = stage.caller
        session_id = await caller.session()
        model_id = await caller.start_model(session_id)
        sampler = await caller.sampler(session_id)
        # the first comes last, so that there is much to do when the session is finished
        accepted = [(await caller.forward_backward(model_id, seq_id)).ok["request_id"] for seq_id in range(40, 0, -1)]
        accepted.append((await caller.post("/asample", sample_body(sampler))).ok["request_id"])
        finish = {"reason": {"type": "success"}, "detail": None}
        assert (await caller.post(f"/sessions/{session_id}/finish", finish)).status == 200
        for request_id in accepted:
            assert "error" not in await caller.result(request_id)
        assert await caller.applied(model_id) == [(seq_id, "forward_backward") for seq_id in range(1, 41)]
        again = {"reason": {"type": "errored"}, "detail": "late"}
        assert (await caller.post(f"/sessions/{session_id}/finish", again)).status == 200
        for answer in (
            await caller.forward_backward(model_id, 41),
            await caller.post("/asample", sample_body(sampler, 1)),
            await caller.post("/create_sampling_session", _sampler(session_id)),
        ):
            assert answer.status == 410
            assert "finished by its client (success)" in answer.detail
        assert await beat(stage, session_id) == 410
        # a repeat of what had been accepted still finds its promise
        assert (await caller.forward_backward(model_id, 40)).ok["request_id"] == accepted[0]

    play(scenario)


def _sampler(session_id: str) -> object:
    return {"session_id": session_id, "sampling_session_seq_id": 9, "base_model": TINY}


def test_a_session_finished_while_its_model_is_created():
    async def scenario(stage: Stage) -> None:
        caller = stage.caller
        session_id = await caller.session()
        promise = (await caller.post("/create_model", create_body(session_id))).ok
        await caller.post(f"/sessions/{session_id}/finish", {"reason": {"type": "interrupted"}, "detail": None})
        assert (await caller.result(promise["request_id"]))["model_id"] == promise["model_id"]
        await trio.sleep(10.0)
        assert not stage.service.models[promise["model_id"]].in_engine
        assert len(await caller.digest(promise["model_id"])) == 64

    for seed in range(5):
        play(scenario, seed=seed)


def test_unknown_sessions_models_and_samplers():
    async def scenario(stage: Stage) -> None:
        caller = stage.caller
        assert await beat(stage, "sess-none") == 404
        for answer in (
            await caller.post("/create_model", create_body("sess-none")),
            await caller.forward_backward("sess-none:train:0", 1),
            await caller.post("/get_info", {"model_id": "none"}),
            await caller.post("/unload_model", {"model_id": "none"}),
            await caller.post("/asample", sample_body("sess-none:sample:0")),
            await caller.get("/samplers/none"),
            await caller.get("/training_runs/none/checkpoints"),
            await caller.get("/local/applied/none"),
            await caller.get("/local/digest/none"),
        ):
            assert answer.status == 404
            assert "none" in answer.detail

    play(scenario)


def test_an_unloaded_model_does_what_it_had_accepted_and_is_gone():
    async def scenario(stage: Stage) -> None:
        caller = stage.caller
        model_id = await caller.model()
        first = (await caller.forward_backward(model_id, 1)).ok["request_id"]
        early = (await caller.forward_backward(model_id, 3)).ok["request_id"]
        promise = (await caller.post("/unload_model", {"model_id": model_id})).ok["request_id"]
        assert (await caller.post("/unload_model", {"model_id": model_id})).ok["request_id"] == promise
        assert (await caller.result(promise))["model_id"] == model_id
        assert "loss_fn_outputs" in await caller.result(first)
        assert "seq_id 2" in (await caller.result(early))["error"]
        answer = await caller.forward_backward(model_id, 2)
        assert answer.status == 410
        assert "unloaded" in answer.detail

    play(scenario)
