"""Many threads use models and samplers at once, cancel, lose patience and close, while requests and models are lost.

Nobody may get another error than those that were asked for, and in the end nothing is left.
"""

from __future__ import annotations

import concurrent.futures
import random
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import trio

from tests.blocking.programs import BASE_MODEL, PROMPT, AdamParams, Holding, batch, engines, until
from tests.blocking.served import Served, served
from tinker_actors import ServerSettings
from tinker_actors.blocking import BlockingRuntime, SamplingClient, TrainingClient
from tinker_actors.errors import APIConnectionError, ClosedError, WaitTimeout
from tinker_actors.local.service import LocalService
from tinker_actors.ports import Request, Response
from tinker_actors.types import SamplingParams

SETTINGS = ServerSettings(base_model=BASE_MODEL, fwdbwd_max_chunk_len=2)
SHORT = SamplingParams(max_tokens=8)
THREADS = 8
SECONDS = 2.0
ASKED_FOR = (WaitTimeout, concurrent.futures.CancelledError)


class Lossy(Holding):
    """HTTP that loses a request, or its reply, of each twenty."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.rate = 0.0
        self._rng = random.Random(seed)

    async def send(self, request: Request) -> Response:
        drawn = self._rng.random()
        if drawn < self.rate / 2:
            await trio.lowlevel.checkpoint()
            raise APIConnectionError("the request was lost", sent=False)
        response = await super().send(request)
        if drawn < self.rate:
            await response.aclose()
            raise APIConnectionError("the reply was lost", sent=True)
        return response


class Crowd:
    """Threads that do whatever comes to their minds, and note what they did not expect."""

    def __init__(
        self, clients: list[TrainingClient], samplers: list[SamplingClient], allowed: tuple[Any, ...]
    ) -> None:
        self._clients = clients
        self._samplers = samplers
        self._allowed = allowed
        self._until = time.monotonic() + SECONDS
        self.unexpected: list[BaseException] = []
        self.done = 0

    @property
    def busy(self) -> bool:
        return time.monotonic() < self._until

    def start(self, seed: int) -> list[threading.Thread]:
        threads = [
            threading.Thread(target=self._work, args=(random.Random(seed * THREADS + n),)) for n in range(THREADS)
        ]
        for thread in threads:
            thread.start()
        return threads

    def _work(self, rng: random.Random) -> None:
        mine: list[concurrent.futures.Future[Any]] = []
        while self.busy:
            self._try(lambda: self._something(rng, mine))
            if len(mine) > 30:
                self._await(mine)
        self._await(mine)

    def _await(self, mine: list[concurrent.futures.Future[Any]]) -> None:
        for future in mine:
            self._try(lambda future=future: future.result(60))
        mine.clear()

    def _try(self, call: Callable[[], object]) -> None:
        try:
            call()
            self.done += 1
        except self._allowed:
            pass
        except BaseException as error:  # looked at by the test
            self.unexpected.append(error)

    def _something(self, rng: random.Random, mine: list[concurrent.futures.Future[Any]]) -> None:
        client, sampler = rng.choice(self._clients), rng.choice(self._samplers)
        match rng.randrange(10):
            case 0 | 1 | 2:
                mine.append(client.forward_backward(batch(*range(rng.randrange(1, 6)))))
            case 3 | 4:
                mine.append(rng.choice([client.optim_step, client.optim_step_async])(AdamParams()))
            case 5:
                mine.append(client.forward_backward_custom(batch(1, 2, 3), _flat, differentiation="own"))
            case 6:
                mine.append(sampler.sample_async(PROMPT, 2, SHORT))
            case 7:
                with sampler.sample_stream(PROMPT, SHORT) as stream:
                    for _ in stream:
                        if rng.random() < 0.3:
                            break
            case 8:
                client.within(rng.choice([0.0005, 0.005, 5.0])).get_info()
            case _ if mine:
                future = rng.choice(mine)
                if rng.random() < 0.5:
                    future.cancel()
                else:
                    future.result(rng.choice([0.0, 0.01, 2.0]))
            case _:
                pass


def _flat(data: Any, logprobs: Any) -> Any:
    return 1.0, [row * 0 for row in logprobs]


def _lose_models(server: Served, crowd: Crowd, seed: int) -> None:
    rng = random.Random(seed)

    def lose(service: LocalService) -> None:
        rng.choice(list(service.models.values())).close("it was lost", abandon=True)

    while crowd.busy:
        time.sleep(0.3 + rng.random() / 2)
        server.ask(lose)


def _close_all(runtime: BlockingRuntime, clients: list[TrainingClient], samplers: list[SamplingClient]) -> None:
    for close in (clients[1].aclose, samplers[1].aclose, runtime.close):
        time.sleep(SECONDS / 5)
        close()


@pytest.mark.ci
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("what", ["nothing", "requests", "models", "clients closed", "session closed"])
def test_a_crowd_of_threads_gets_what_it_asked_for_and_nothing_is_left(what: str, seed: int) -> None:
    carrier = Lossy(seed)
    with served(SETTINGS) as server:
        with server.runtime(carrier) as runtime:
            service = runtime.create_service_client()
            clients = [service.create_lora_training_client(BASE_MODEL, rank=2, seed=number) for number in range(3)]
            samplers = [
                service.create_sampling_client(base_model=BASE_MODEL),
                clients[0].save_weights_and_get_sampling_client("kept"),
            ]
            crowd = Crowd(clients, samplers, (*ASKED_FOR, ClosedError) if "closed" in what else ASKED_FOR)
            carrier.rate = 0.05 if what == "requests" else 0.0
            threads = crowd.start(seed)
            if what == "models":
                _lose_models(server, crowd, seed)
            if what == "clients closed":
                _close_all(runtime, clients, samplers)
            if what == "session closed":
                time.sleep(SECONDS / 3)
                service.close()
            for thread in threads:
                thread.join(120)
            assert not any(thread.is_alive() for thread in threads)
            assert crowd.unexpected == []
            assert crowd.done > THREADS
            carrier.rate = 0.0
            if "closed" not in what:
                for client in clients:
                    client.optim_step(AdamParams()).result(60)
                assert runtime.pending() == ()
            until(
                lambda: (runtime._engine._calls, runtime._engine._waiting) == (set(), {})
            )  # some are on their way out
        assert engines() == []
