"""What SDK 0.38 does with samplers besides sampling: joining, polling for all results at once, cancelling."""

from __future__ import annotations

from typing import Any

import trio

from supervision import ActorCrashed, Event
from tests.local.harness import PROTOBUF, Answer, Caller, Stage, play, sample_body


async def ask(caller: Caller, sampler: str, seq_id: int, **more: Any) -> str:
    answer = await caller.post("/asample", sample_body(sampler, seq_id) | more)
    return answer.ok["request_id"]


async def look(
    caller: Caller, sampler: str, cursor: int = 0, *, clone: int = 0, timeout: float | None = 0, done: Any = ()
) -> Answer:
    body: dict[str, Any] = {
        "target": {"type": "sampling_session", "sampling_session_id": sampler, "cloned_sampler_id": clone},
        "prev_cursor": cursor,
        "retrieved_request_ids": list(done),
    }
    return await caller.post("/retrieve_futures", body | ({} if timeout is None else {"timeout": timeout}))


def states(answer: Answer) -> dict[str, str]:
    return {entry["request_id"]: entry["state"] for entry in answer.ok["completions"]}


def test_each_client_of_a_sampler_has_a_number() -> None:
    async def scenario(stage: Stage) -> None:
        caller = stage.caller
        session_id = await caller.session()
        first, second = await caller.sampler(session_id, 0), await caller.sampler(session_id, 1)

        async def join(sampler: str) -> int:
            return (await caller.post("/join_sampling_session", {"sampling_session_id": sampler})).ok[
                "client_counter"
            ]

        assert [await join(first), await join(first), await join(second)] == [1, 2, 1]
        for unknown, status in (("none", 404), (f"{session_id}:sample:9", 404)):
            answer = await caller.post("/join_sampling_session", {"sampling_session_id": unknown})
            assert answer.status == status
        assert (await caller.post("/join_sampling_session", {})).status == 422
        config = (await caller.post("/client/config", {"sdk_version": "0.38.0"})).ok
        assert config["sample_join_sampling_session"] is config["sample_use_retrieve_futures"] is True

    play(scenario, sample_join_sampling_session=True, sample_use_retrieve_futures=True)


def test_the_session_poller_sees_each_completion_once_and_in_order() -> None:
    async def scenario(stage: Stage) -> None:
        caller = stage.caller
        session_id = await caller.session()
        sampler, other = await caller.sampler(session_id, 0), await caller.sampler(session_id, 1)
        assert (await look(caller, sampler)).ok == {"completions": [], "cursor": 0}
        first = await ask(caller, sampler, 0)
        await ask(caller, other, 0)
        clone = await ask(caller, sampler, 3_000_000_000)
        answer = await look(caller, sampler, timeout=None)
        (completion,) = answer.ok["completions"]
        assert (completion["request_id"], completion["state"]) == (first, "finished")
        payload = await caller.wait(first, accept=PROTOBUF)
        assert completion["response_payload_uncompressed_size"] == len(payload.content)
        cursor = answer.ok["cursor"]
        assert states(await look(caller, sampler)) == {first: "finished"}
        second, third = await ask(caller, sampler, 1), await ask(caller, sampler, 2)
        await caller.result(third)
        answer = await look(caller, sampler, cursor)
        assert list(states(answer)) == [second, third]
        assert answer.ok["cursor"] > cursor
        # what was before the cursor has been forgotten
        assert list(states(await look(caller, sampler))) == [second, third]
        assert states(await look(caller, sampler, clone=3, timeout=None)) == {clone: "finished"}
        assert states(await look(caller, sampler, clone=1)) == {}

    play(scenario)


def test_a_poll_is_held_until_something_is_completed() -> None:
    async def scenario(stage: Stage) -> None:
        caller = stage.caller
        sampler = await caller.sampler(await caller.session())
        begun = trio.current_time()
        assert states(await look(caller, sampler, timeout=3)) == {}
        assert 3.0 <= trio.current_time() - begun < 4.0
        assert states(await look(caller, sampler, timeout=None)) == {}
        assert 13.0 <= trio.current_time() - begun < 14.0
        assert states(await look(caller, sampler, timeout=1000.0)) == {}
        assert trio.current_time() - begun < 24.0
        seen: list[Answer] = []

        async def wait() -> None:
            seen.append(await look(caller, sampler, timeout=None))

        begun = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            nursery.start_soon(wait)
            await trio.sleep(2.0)
            request_id = await ask(caller, sampler, 0)
        assert [states(answer) for answer in seen] == [{request_id: "finished"}] * 2
        assert trio.current_time() - begun < 4.0

    play(scenario, poll_hold=10.0)


def test_results_that_were_retrieved_are_forgotten() -> None:
    async def scenario(stage: Stage) -> None:
        caller = stage.caller
        session_id = await caller.session()
        model_id = await caller.start_model(session_id)
        sampler = await caller.sampler(session_id)
        first, second = await ask(caller, sampler, 0), await ask(caller, sampler, 1)
        await caller.result(first)
        await caller.result(second)
        waiting = (await caller.optim_step(model_id, 2)).ok["request_id"]
        held = stage.service.futures.find(stage.service.owners.identify("tml-test"), first)
        assert held.result is not None
        answer = await look(caller, sampler, done=[first, waiting, "req-none"])
        assert held.result is None  # its memory is free before its time is over
        assert list(states(answer))[:2] == [first, second]
        assert (await caller.poll(first)).status == 410
        assert (await caller.poll(second)).status == 200
        await caller.forward_backward(model_id, 1)
        assert "metrics" in await caller.result(waiting)
        other = Caller(stage.network.transport(), key="tml-other")
        their = await other.sampler(await other.session())
        assert (await look(other, their, done=[second])).status == 200
        assert (await caller.poll(second)).status == 200
        crashes: list[Event] = []
        with stage.service.system.events.subscribe(crashes.append):
            await trio.sleep(100.0)
            assert (await caller.poll(second)).status == 410
            await ask(caller, sampler, 3)
        assert not any(isinstance(event, ActorCrashed) for event in crashes)

    play(scenario, result_retention=100.0)


def test_polls_that_can_not_be() -> None:
    async def scenario(stage: Stage) -> None:
        caller = stage.caller
        session_id = await caller.session()
        sampler = await caller.sampler(session_id)
        for more in ({"clone": -1}, {"cursor": -1}, {"timeout": -1}):
            answer = await look(caller, sampler, **more)
            assert (answer.status, answer.detail.split(":")[0]) == (400, "retrieve_futures")
        assert (await look(caller, "none")).status == 404
        assert (await look(Caller(stage.network.transport(), key="tml-other"), sampler)).status == 404
        assert (await caller.post("/retrieve_futures", {"target": {"type": "model", "model_id": "m"}})).status == 422
        await caller.post(f"/sessions/{session_id}/finish", {"reason": {"type": "success"}, "detail": None})
        assert (await look(caller, sampler)).status == 410

    play(scenario)


def test_a_sample_is_cancelled_before_it_begins() -> None:
    async def scenario(stage: Stage) -> None:
        caller = stage.caller
        session_id = await caller.session()
        sampler, other = await caller.sampler(session_id, 0), await caller.sampler(session_id, 1)
        slow = {"sampling_params": {"max_tokens": 24, "seed": 1, "stop": []}, "num_samples": 1000}
        first = await ask(caller, sampler, 0, **slow)
        second, third = await ask(caller, other, 0), await ask(caller, other, 1)
        assert (await caller.post("/cancel_future", {"request_id": second})).status == 200
        failure = await caller.result(second)
        assert failure == {"error": "sample: its client has cancelled it", "category": "user"}
        assert states(await look(caller, other)) == {second: "failed"}
        assert (await caller.post("/cancel_future", {"request_id": second})).status == 200
        # what has begun goes on, and what waits for others
        assert (await caller.post("/cancel_future", {"request_id": first})).status == 200
        assert len((await caller.result(first))["sequences"]) == 1000
        assert "sequences" in await caller.result(third)
        assert (await caller.post("/cancel_future", {"request_id": first})).status == 200
        dynamic = (await caller.post("/client/dynamic_config", {"sdk_version": "0.38.0"})).ok
        assert dynamic["sample_cancel_enabled"] is True

    play(scenario)


def test_only_samples_of_ones_own_are_cancelled() -> None:
    async def scenario(stage: Stage) -> None:
        caller = stage.caller
        session_id = await caller.session()
        model_id = await caller.start_model(session_id)
        pending = (await caller.optim_step(model_id, 2)).ok["request_id"]
        answer = await caller.post("/cancel_future", {"request_id": pending})
        assert (answer.status, answer.detail.split(":")[0]) == (400, "request_id")
        await caller.forward_backward(model_id, 1)
        assert "metrics" in await caller.result(pending)
        assert (await caller.post("/cancel_future", {"request_id": "req-1"})).status == 404
        sampler = await caller.sampler(session_id)
        request_id = await ask(caller, sampler, 0)
        other = Caller(stage.network.transport(), key="tml-other")
        assert (await other.post("/cancel_future", {"request_id": request_id})).status == 404
        assert "sequences" in await caller.result(request_id)

    play(scenario)
