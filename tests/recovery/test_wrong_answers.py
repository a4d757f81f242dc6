"""Services of users' that answer with what no service should: it costs the run that it is about, and no other."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from tests.recovery.stand_ins import Made, Runs, Service, checkpoint, heard, told
from tests.recovery.test_executor import ATTEMPT, DONE, run
from tests.recovery.test_monitor import POLICY, minutes
from tinker_actors.config import RecoveryPolicy
from tinker_actors.errors import RecoveryFailed
from tinker_actors.recovery.events import RecoveryPollError
from tinker_actors.testing.simulation import World


class WrongRuns(Runs):
    """Answers questions about runs with anything."""

    def __init__(self, answer: Any) -> None:
        super().__init__(checkpoint("a"))
        self.answer = answer

    async def get_training_run(self, training_run_id: str, /) -> Any:
        await trio.sleep(0.1)
        return self.answer

    async def list_checkpoints(self, training_run_id: str, /) -> Any:
        await trio.sleep(0.1)
        return self.answer


class Odd:
    """Something that looks like a run of which nothing can be asked."""

    corrupted = True

    @property
    def last_checkpoint(self) -> Any:
        raise RuntimeError("not now")


@pytest.mark.parametrize("answer", [None, "yes", {"corrupted": True}, Odd()], ids=["none", "text", "dict", "odd"])
def test_an_answer_that_is_no_run_is_told_and_ends_nobody_elses_watch(answer: Any):
    async def story(world: World) -> tuple[Service, tuple[str, ...]]:
        recovery, runs = world.runtime.recovery, Runs(checkpoint("a"))
        service = Service(runs)
        await recovery.monitor_run("bad", Service(WrongRuns(answer)))
        await recovery.monitor_run("run", service)
        await minutes(10)
        runs.corrupted.add("run")
        await minutes()
        return service, recovery.monitored()

    outcome = run(story, POLICY)
    service, monitored = outcome.value
    assert len(service.made) == 1
    assert set(monitored) == {"bad", "made-0"}
    errors = [event for event in heard(outcome) if isinstance(event, RecoveryPollError)]
    assert {event.run_id for event in errors} == {"bad"}
    assert told(outcome, "run") == ["RecoveryDetected", *ATTEMPT, *DONE]
    assert not [event for event in outcome.events if type(event).__name__ == "ActorCrashed"]


@pytest.mark.parametrize("path", [None, 3, "", b"tinker://run/weights/a"])
def test_a_choice_that_is_no_path_is_an_error_of_its_run(path: Any):
    class Chooser:
        async def choose(self, *_: object) -> Any:
            await trio.sleep(0.1)
            return path

    async def story(world: World) -> Service:
        recovery, service = world.runtime.recovery, Service(Runs(checkpoint("a")))
        with pytest.raises(RecoveryFailed, match=r"bad was not recovered in one attempt, which failed: .*checkpoint"):
            await recovery.recover("bad", service, chooser=Chooser())
        await recovery.recover("run", service)
        return service

    outcome = run(story, RecoveryPolicy())
    assert [path for _, path, _ in outcome.value.calls] == ["tinker://run/weights/a"]


class Shy(Made):
    """A client that says nothing of its model, and can't be closed."""

    def __init__(self) -> None:
        self.closed = False

    @property
    def model_id(self) -> str:
        raise RuntimeError("not now")

    @model_id.setter
    def model_id(self, given: str) -> None: ...


@pytest.mark.parametrize("client", [None, "a client", Shy()], ids=["none", "text", "shy"])
@pytest.mark.parametrize("waited_for", [True, False])
def test_a_client_that_is_none_disturbs_no_other_recovery(client: Any, waited_for: bool):
    class Wrong(Service):
        async def create_training_client_from_state_with_optimizer(self, path: str, /) -> Any:
            with trio.CancelScope(shield=True):  # nor does it hear of who does not wait
                await trio.sleep(1.0)
            return client

    async def story(world: World) -> Service:
        recovery, runs = world.runtime.recovery, Runs(checkpoint("a"))
        service = Service(runs)
        with trio.move_on_after(1000.0 if waited_for else 0.5):
            given = await recovery.recover("bad", Wrong(runs))
            assert given.client is client
        await trio.sleep(5.0)
        assert recovery.recoveries() == ()
        await recovery.recover("run", service)
        return service

    outcome = run(story, RecoveryPolicy())
    assert len(outcome.value.made) == 1
    assert not [event for event in outcome.events if type(event).__name__ == "ActorCrashed"]
