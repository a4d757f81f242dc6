"""Blocking handles that are let go, in whatever thread; creations that are given up; restores that fail."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Generator
from typing import Any, final

import pytest
import trio

from tests.blocking.programs import BASE_MODEL, PROMPT, SHORT, AdamParams, Holding, start, until
from tests.blocking.running import end_of, program
from tests.blocking.served import Served, served
from tinker_actors.blocking import BlockingRuntime
from tinker_actors.errors import APIStatusError, WaitTimeout
from tinker_actors.ports import Request, Response

CLIENTS = "runtime/sessions/session-0/clients"


@pytest.fixture(scope="module")
def server() -> Generator[Served]:
    with served() as server:
        yield server


def open_models(server: Served) -> list[str]:
    return server.ask(lambda service: [name for name, model in service.models.items() if model.closed is None])


def places(runtime: BlockingRuntime, path: str) -> list[str]:
    node = runtime.tree().find(path)
    return [] if node is None else sorted(child.path.rpartition("/")[2] for child in node.children)


def drop(held: list[Any], *, elsewhere: bool = False, until_gone: Callable[[], bool] = lambda: True) -> None:
    """Let go of what is ``held``, maybe in another thread, and wait for what comes of it."""
    if elsewhere:
        thread = threading.Thread(target=held.clear)
        thread.start()
        thread.join()
    held.clear()
    gc.collect()
    until(until_gone)


@final
class HoldingOnce(Holding):
    """Holds the first request of each of its purposes for ever, and no other."""

    async def send(self, request: Request) -> Response:
        if request.purpose in self.held:
            self.held.remove(request.purpose)
            await trio.sleep_forever()
        return await super().send(request)


@pytest.mark.parametrize("elsewhere", [False, True], ids=["here", "in another thread"])
def test_a_training_client_that_is_let_go_is_unloaded_once_its_operations_are_done(server: Served, elsewhere: bool):
    with server.runtime() as runtime:
        service, client = start(runtime)
        held: list[Any] = [service.create_lora_training_client(BASE_MODEL, rank=2)]
        future = held[0].optim_step(AdamParams())
        limited = held[0].within(30.0)
        sampler = held[0].save_weights_and_get_sampling_client("kept")
        held.append(limited)
        del limited
        with pytest.warns(ResourceWarning, match="training-1 .* was let go without"):
            drop(held, elsewhere=elsewhere)
        until(lambda: places(runtime, CLIENTS) == ["sampler-0", "service", "training-0"])
        assert future.result(30).metrics is not None
        until(lambda: open_models(server) == [client.model_id])
        assert sampler.sample(PROMPT, 1, SHORT).sequences
        client.optim_step(AdamParams()).result(30)


def test_a_session_ends_with_the_last_of_its_handles(server: Served):
    with server.runtime() as runtime:
        service, client = start(runtime)
        other = runtime.create_service_client()
        held: list[Any] = [other.create_sampling_client(base_model=BASE_MODEL)]
        del other
        gc.collect()
        assert held[0].sample(PROMPT, 1, SHORT).sequences
        with pytest.warns(ResourceWarning, match=r"session-1 was let go without close\(\)"):
            drop(held, until_gone=lambda: places(runtime, "runtime/sessions") == ["session-0"])
        client.optim_step(AdamParams()).result(30)
        assert service.session_id


def test_a_creation_whose_time_is_up_leaves_nothing(server: Served):
    carrier = HoldingOnce()
    with server.runtime(carrier) as runtime:
        service, client = start(runtime)
        carrier.held.add("poll")
        with pytest.raises(WaitTimeout):
            service.within(0.5).create_lora_training_client(BASE_MODEL, rank=2)
        assert not carrier.held
        until(lambda: runtime.pending() == ())
        assert open_models(server) == [client.model_id]
        other = service.create_lora_training_client(BASE_MODEL, rank=2)
        assert other.model_id == f"{service.session_id}:train:2"


def test_a_failed_restore_leaves_nothing_and_its_number_is_not_given_again(server: Served):
    with server.runtime() as runtime:
        service, client = start(runtime)
        with pytest.raises(APIStatusError):
            service.create_training_client_from_state("tinker://nobody:train:0/weights/none")
        until(lambda: runtime.pending() == ())
        assert places(runtime, CLIENTS) == ["service", "training-0"]
        assert open_models(server) == [client.model_id]
        other = service.create_lora_training_client(BASE_MODEL, rank=2)
        assert other.model_id == f"{service.session_id}:train:2"


FORKED = """
import gc, warnings, weakref
warnings.simplefilter("always")
with opened() as runtime:
    held = list(start(runtime))
    for _ in range(500):  # what the engine's thread has in hand just then, the child never lets go
        if (child := os.fork()) == 0:
            known = [weakref.ref(handle) for handle in held]
            held.clear()
            gc.collect()
            os._exit(any(ref() is not None for ref in known))
        if os.waitpid(child, 0)[1] == 0:
            say("child")
            break
        time.sleep(0.01)
    held[1].optim_step(AdamParams()).result(30)
    say("parent")
"""


def test_a_forked_process_lets_go_of_its_copies_only(server: Served):
    with program(server, FORKED) as process:
        status, printed = end_of(process)
    assert status == 0, printed
    assert [line for line in printed.splitlines() if line in ("child", "parent")] == ["child", "parent"]
    assert "let go" not in printed
