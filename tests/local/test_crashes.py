"""Bugs in the server itself: planted into the engine of a running service."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import trio

from supervision import ActorCrashed, Event
from tests.local.harness import Stage, create_body, play, sample_body
from tinker_actors.local.engine import Engine, OptimStep, SaveState


def plant(monkeypatch: pytest.MonkeyPatch, broken: Callable[[object], bool]) -> None:
    """``Engine.apply`` crashes where ``broken`` says so, having done its work."""
    original = Engine.apply

    def apply(self: Engine, operation: Any) -> Any:
        result = original(self, operation)
        if broken(operation):
            raise ZeroDivisionError("a bug of the engine")
        return result

    monkeypatch.setattr(Engine, "apply", apply)


def test_an_operation_that_crashes_the_server_fails_and_its_model_is_not_trusted_any_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scenario(stage: Stage) -> None:
        caller = stage.caller
        events: list[Event] = []
        session_id = await caller.session()
        model_id = await caller.start_model(session_id)
        other = await caller.start_model(session_id, 1)
        await caller.train(model_id, 1, 1)
        path = (await caller.save(model_id, 3, "before"))["path"]
        plant(monkeypatch, lambda operation: isinstance(operation, OptimStep) and operation.model_id == model_id)
        with stage.service.system.events.subscribe(events.append):
            forward = (await caller.forward_backward(model_id, 4)).ok["request_id"]
            crashed = (await caller.optim_step(model_id, 5)).ok["request_id"]
            behind = (await caller.forward_backward(model_id, 6)).ok["request_id"]
            assert "metrics" in await caller.result(forward)
            failure = await caller.result(crashed)
            assert failure["category"] == "server"
            assert "optim_step (seq_id 5)" in failure["error"]
            failure = await caller.result(behind)
            assert failure["category"] == "server"
            assert "not known" in failure["error"]
        (crash,) = [event for event in events if isinstance(event, ActorCrashed)]
        assert "ZeroDivisionError" in str(crash.crash)
        assert [seq_id for seq_id, _ in await caller.applied(model_id)] == [1, 2, 3, 4]
        queue = (await caller.get("/local/queue")).ok["models"]
        assert ["corrupted" in model for model in queue] == [True, False]
        # neighbours and checkpoints are whole
        await caller.train(other, 1)
        body = {"session_id": session_id, "model_seq_id": 2, "path": path, "optimizer": True}
        assert "model_id" in await caller.result((await caller.post("/load_weights", body)).ok["request_id"])

    play(scenario)


def test_a_crash_in_what_only_reads_leaves_the_model_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(stage: Stage) -> None:
        caller = stage.caller
        model_id = await caller.model()
        await caller.train(model_id, 1, 1)
        with monkeypatch.context() as patched:
            plant(patched, lambda operation: isinstance(operation, SaveState))
            failure = await caller.save(model_id, 3, "a")
        assert failure["category"] == "server"
        assert "path" in await caller.save(model_id, 4, "a")
        await caller.train(model_id, 5)

    play(scenario)


def test_a_crash_in_a_creation_ends_that_model_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(stage: Stage) -> None:
        caller = stage.caller
        session_id = await caller.session()
        with monkeypatch.context() as patched:
            plant(patched, lambda _: True)
            promise = (await caller.post("/create_model", create_body(session_id))).ok
            assert (await caller.result(promise["request_id"]))["category"] == "server"
        answer = await caller.forward_backward(promise["model_id"], 1)
        assert answer.status == 410
        await caller.train(await caller.start_model(session_id, 1), 1)

    play(scenario)


def test_a_sample_that_crashes_the_server_fails_and_those_behind_it_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    original = Engine.sample_many

    def sample_many(self: Engine, base: str, snapshot: Any, requests: Any, **more: Any) -> Any:
        if any(request.seq_id == 2 for request in requests):
            raise ZeroDivisionError("a bug of the engine")
        return original(self, base, snapshot, requests, **more)

    monkeypatch.setattr(Engine, "sample_many", sample_many)

    async def scenario(stage: Stage) -> None:
        caller = stage.caller
        session_id = await caller.session()
        samplers = [await caller.sampler(session_id, n) for n in range(5)]
        ids = [(await caller.post("/asample", sample_body(samplers[n], n))).ok["request_id"] for n in range(5)]
        results = [await caller.result(request_id) for request_id in ids]
        assert [result.get("category") for result in results] == [None, None, "server", None, None]

    play(scenario)


def test_a_server_that_is_killed_answers_nobody_and_hangs_nobody() -> None:
    async def scenario(stage: Stage) -> None:
        caller = stage.caller
        model_id = await caller.model()
        early = (await caller.optim_step(model_id, 2)).ok["request_id"]

        async def poll() -> None:
            with pytest.raises(Exception, match="reset"):
                await caller.poll(early)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(poll)
            await trio.sleep(1.0)
            stage.network.kill()

    play(scenario)
