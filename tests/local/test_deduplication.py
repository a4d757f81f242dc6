from __future__ import annotations

import trio

from tests.local.harness import TINY, Stage, create_body, datum, play, sample_body


def test_a_repeated_request_gives_the_first_promise_and_takes_effect_once():
    async def scenario(stage: Stage) -> None:
        caller = stage.caller
        model_id = await caller.model()
        first = (await caller.forward_backward(model_id, 1)).ok
        again = (await caller.forward_backward(model_id, 1)).ok
        await caller.result(first["request_id"])
        late = (await caller.forward_backward(model_id, 1)).ok
        assert first == again == late
        step = (await caller.optim_step(model_id, 2)).ok
        assert (await caller.optim_step(model_id, 2)).ok == step
        await caller.result(step["request_id"])
        assert await caller.applied(model_id) == [(1, "forward_backward"), (2, "optim_step")]

    play(scenario)


def test_repeats_that_race_with_each_other_give_one_promise():
    async def scenario(stage: Stage) -> int:
        caller = stage.caller
        model_id = await caller.model()
        promises: list[str] = []

        async def submit() -> None:
            promises.append((await caller.forward_backward(model_id, 1)).ok["request_id"])

        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(submit)
        await caller.result(promises[0])
        assert await caller.applied(model_id) == [(1, "forward_backward")]
        return len(set(promises))

    assert [play(scenario, seed=seed) for seed in range(5)] == [1] * 5


def test_an_early_arrival_is_deduplicated_too():
    async def scenario(stage: Stage) -> None:
        caller = stage.caller
        model_id = await caller.model()
        first = (await caller.optim_step(model_id, 2)).ok
        assert (await caller.optim_step(model_id, 2)).ok == first
        await caller.forward_backward(model_id, 1)
        await caller.result(first["request_id"])
        assert await caller.applied(model_id) == [(1, "forward_backward"), (2, "optim_step")]

    play(scenario)


def test_another_payload_under_the_same_seq_id_is_refused_and_changes_nothing():
    async def scenario(stage: Stage) -> None:
        caller = stage.caller
        model_id = await caller.model()
        first = (await caller.forward_backward(model_id, 1, (datum(1),))).ok
        for other in (
            await caller.forward_backward(model_id, 1, (datum(2),)),
            await caller.forward_backward(model_id, 1, (datum(1),), forward_only=True),
            await caller.optim_step(model_id, 1),
        ):
            assert other.status == 400
            assert "seq_id" in other.detail
            assert "another payload" in other.detail
        await caller.result(first["request_id"])
        assert await caller.applied(model_id) == [(1, "forward_backward")]

    play(scenario)


def test_without_deduplication_a_repeat_takes_effect_again():
    async def scenario(stage: Stage) -> tuple[str, list[tuple[int, str]]]:
        caller = stage.caller
        model_id = await caller.model()
        for _ in range(2):
            await caller.forward_backward(model_id, 1)
            await caller.result((await caller.optim_step(model_id, 2)).ok["request_id"])
        return await caller.digest(model_id), await caller.applied(model_id)

    once = play(scenario)
    twice = play(scenario, server_class="none")
    assert once[1] == [(1, "forward_backward"), (2, "optim_step")]
    assert twice[1] == once[1] * 2
    assert once[0] != twice[0]


def test_a_model_asked_for_twice_is_created_once():
    async def scenario(stage: Stage) -> None:
        caller = stage.caller
        session_id = await caller.session()
        body = create_body(session_id, 0)
        answers: list[str] = []

        async def ask() -> None:
            answers.append((await caller.post("/create_model", body)).ok["request_id"])

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(ask)
        assert len(set(answers)) == 1
        result = await caller.result(answers[0])
        assert result["model_id"] == f"{session_id}:train:0"
        other = await caller.post("/create_model", create_body(session_id, 0, rank=3))
        assert other.status == 400
        assert "model_seq_id" in other.detail
        assert len(stage.service.models) == 1

    play(scenario)


def test_a_sample_asked_for_twice_is_sampled_once():
    async def scenario(stage: Stage) -> None:
        caller = stage.caller
        sampler = await caller.sampler(await caller.session())
        body = sample_body(sampler, 5, seed=None, num_samples=3)
        first = (await caller.post("/asample", body)).ok
        assert len(set(first["sample_sequence_ids"])) == 3
        assert (await caller.post("/asample", body)).ok == first
        result = await caller.result(first["request_id"])
        assert len(result["sequences"]) == 3
        assert (await caller.post("/asample", body)).ok == first
        other = await caller.post("/asample", sample_body(sampler, 5, seed=1))
        assert other.status == 400
        assert "another payload" in other.detail
        another = (await caller.post("/asample", sample_body(sampler, 6, seed=None, num_samples=3))).ok
        assert not set(another["sample_sequence_ids"]) & set(first["sample_sequence_ids"])

    play(scenario)


def test_a_sampling_session_asked_for_twice_is_one():
    async def scenario(stage: Stage) -> None:
        caller = stage.caller
        session_id = await caller.session()
        first = await caller.sampler(session_id, 1)
        assert first == f"{session_id}:sample:1"
        assert await caller.sampler(session_id, 1) == first
        model_id = await caller.start_model(session_id)
        path = (await caller.save_sampler(model_id, 1, path="a"))["path"]
        body = {"session_id": session_id, "sampling_session_seq_id": 1, "model_path": path}
        answer = await caller.post("/create_sampling_session", body)
        assert answer.status == 400
        assert "sampling_session_seq_id" in answer.detail
        taken = await caller.save_sampler(model_id, 2, sampling_session_seq_id=1)
        assert taken["category"] == "user"
        assert "in use" in taken["error"]
        info = (await caller.get(f"/samplers/{first}")).ok
        assert (info["base_model"], info.get("model_path")) == (TINY, None)

    play(scenario)
