"""Futures and waits: timeouts that say what is waited for, waits that are left, what is taken back."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import threading
from collections.abc import Callable, Generator
from typing import Any

import pytest
import trio

from tests.blocking.programs import PROMPT, SHORT, Holding, batch, start, until
from tests.blocking.served import Served, served
from tinker_actors.blocking import BlockingFuture
from tinker_actors.config import Config
from tinker_actors.errors import ClosedError, InvalidInput, WaitTimeout, WrongPlace
from tinker_actors.local import ServerSettings
from tinker_actors.types import AdamParams


@pytest.fixture(scope="module")
def server() -> Generator[Served]:
    with served() as server:
        yield server


def test_a_wait_that_times_out_says_what_it_waits_for_and_the_operation_goes_on(server: Served) -> None:
    carrier = Holding()
    with server.runtime(carrier) as runtime:
        _, client = start(runtime)
        carrier.held.add("train")
        future = client.optim_step(AdamParams())
        for wait in (future.result, future.exception):
            with pytest.raises(WaitTimeout, match=r"no result after 0.05 s: .*training-0#1 optim_step: sent"):
                wait(0.05)
        with pytest.raises(TimeoutError):
            future.result(0)
        assert not future.done()
    with pytest.raises(ClosedError, match="session-0/training-0 was closed"):
        future.result()


def test_a_call_that_times_out_says_what_waits_and_is_cancelled(server: Served) -> None:
    carrier = Holding()
    with server.runtime(carrier) as runtime:
        service, client = start(runtime)
        sampler = service.create_sampling_client(base_model="tinker-actors/tiny")
        carrier.held |= {"rest", "sample"}
        with pytest.raises(
            WaitTimeout, match=r"get_server_capabilities was given up after 0.05 s. Waiting:\n .*sent"
        ):
            service.within(0.05).get_server_capabilities()
        with pytest.raises(
            WaitTimeout, match=r"sample was given up after 0.05 s. Waiting:(\n .*)+session-0/sampler-0/0 sample: sent"
        ):
            sampler.within(0.05).sample(PROMPT)
        late = sampler.within(0.05).sample_async(PROMPT)
        with pytest.raises(WaitTimeout, match="sample was given up"):
            late.result()
        waiting = sampler.sample_async(PROMPT)
        with pytest.raises(
            WaitTimeout, match=r"no result after 0.05 s: sample; .*session-0/sampler-0/\d+ sample: sent"
        ):
            waiting.result(0.05)
        assert client.get_info_async().cancel()
    assert runtime.pending() == ()


def test_a_call_that_waits_for_room_has_a_timeout_and_was_not_accepted(server: Served) -> None:
    carrier = Holding()
    config = Config.load(base_url=server.url, api_key=server.key, environ={}, max_pending=1)
    with server.runtime(carrier, config=config) as runtime:
        _, client = start(runtime)
        carrier.held.add("train")
        client.optim_step(AdamParams())
        with pytest.raises(WaitTimeout, match="optim_step: waiting to be accepted"):
            client.within(0.05).optim_step(AdamParams())
        with pytest.raises(InvalidInput, match="1 operations wait already"):
            client.optim_step_async(AdamParams())
        assert len(client.accepted) == 1


@pytest.mark.parametrize("odd", ["x", True, -1, float("nan")])
def test_a_timeout_that_is_none_is_refused(server: Served, odd: Any) -> None:
    with server.runtime() as runtime:
        _, client = start(runtime)
        future = client.optim_step(AdamParams())
        for use in (future.result, future.exception, client.within):
            with pytest.raises(InvalidInput, match="timeout"):
                use(odd)
        assert future.result(float("inf")) is not None
        assert client.within(None).get_info() == client.within(float("inf")).get_info()


def test_asyncio_awaits_a_future_and_the_library_waits_for_several(server: Served) -> None:
    with server.runtime() as runtime:
        service, client = start(runtime)

        async def main() -> None:
            step = client.forward_backward(batch(1))
            assert (await step).metrics["loss:sum"] == (await asyncio.wrap_future(step)).metrics["loss:sum"]
            assert await asyncio.wait_for(client.optim_step(AdamParams()), 60) is not None  # type: ignore[arg-type]
            sampler = await service.create_sampling_client_async(base_model="tinker-actors/tiny")
            samples = await asyncio.gather(*[sampler.sample_async(PROMPT, 1, SHORT) for _ in range(5)])
            assert len({tuple(sample.sequences[0].tokens.tolist()) for sample in samples}) == 1
            with pytest.raises(Exception, match="no checkpoint"):
                await client.load_state("tinker://nowhere/weights/none")

        asyncio.run(main())
        futures = [client.forward(batch(number)) for number in range(4)]
        assert set(concurrent.futures.as_completed(futures, 60)) == set(futures)
        done, left = concurrent.futures.wait(futures)
        assert (len(done), len(left)) == (4, 0)


def test_leaving_a_wait_in_asyncio_touches_nothing(server: Served) -> None:
    carrier = Holding()
    with server.runtime(carrier) as runtime:
        _, client = start(runtime)
        carrier.held.add("train")
        client.optim_step(AdamParams())
        future = client.optim_step(AdamParams())  # behind the other one, so that it could still be taken back

        async def main() -> None:
            with pytest.raises(asyncio.TimeoutError):
                async with asyncio.timeout(0.05):
                    await future
            task = asyncio.ensure_future(_awaiting(future))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        asyncio.run(main())
        assert not future.done()
        assert not future.cancelled()
        assert len(client._inner._model.ledger.unfinished()) == 2


async def _awaiting(future: BlockingFuture[Any]) -> Any:
    return await future


def test_what_was_not_sent_can_be_taken_back(server: Served) -> None:
    carrier = Holding()
    with server.runtime(carrier) as runtime:
        _, client = start(runtime)
        carrier.held.add("train")
        sent, unsent, other = [client.optim_step(AdamParams(learning_rate=rate)) for rate in (1.0, 2.0, 3.0)]
        with pytest.raises(WaitTimeout, match="sent"):
            sent.result(0.2)
        assert not sent.cancel()
        assert unsent.cancel()
        assert unsent.cancelled()
        assert unsent.cancel()
        with pytest.raises(concurrent.futures.CancelledError):
            unsent.result()
        assert concurrent.futures.wait([unsent], 5).done == {unsent}

        async def main() -> None:
            waiting = asyncio.wrap_future(other)
            waiting.cancel()  # asyncio's own rule: what it wraps is cancelled with it
            with pytest.raises(asyncio.CancelledError):
                await waiting

        asyncio.run(main())
        assert other.cancelled()
        assert [operation.op_no for operation in client._inner._model.ledger.unfinished()] == [1]


def test_a_cancelled_sample_is_given_up_where_it_is(server: Served) -> None:
    carrier = Holding("sample")
    with server.runtime(carrier) as runtime:
        service, _ = start(runtime)
        sampler = service.create_sampling_client(base_model="tinker-actors/tiny")
        future = sampler.sample_async(PROMPT)
        until(lambda: len(runtime.pending()) == 1)
        assert future.cancel()
        assert future.cancelled()
        until(lambda: runtime.pending() == ())


def test_the_server_hears_of_samples_that_are_given_up() -> None:
    settings = ServerSettings(base_model="tinker-actors/tiny", max_turns_per_second=0.02)
    with served(settings) as slow, slow.runtime() as runtime:
        service, _ = start(runtime)
        sampler = service.create_sampling_client(base_model="tinker-actors/tiny")
        first, second = sampler.sample_async(PROMPT), sampler.sample_async(PROMPT)

        def promised() -> int:
            return sum(entry.state == "promised" for entry in runtime.pending())

        until(lambda: promised() == 2)
        assert first.cancel()

        async def impatient() -> None:
            await asyncio.wait_for(asyncio.wrap_future(second), 0.01)

        with pytest.raises(TimeoutError):
            asyncio.run(impatient())
        until(lambda: runtime.counters().get("samples_cancelled") == 2)
        until(lambda: runtime.pending() == ())


def test_ends_of_calls_by_the_end_of_the_runtime(server: Served) -> None:
    carrier = Holding()
    errors: list[BaseException] = []

    def wait(call: Callable[[], object]) -> None:
        try:
            call()
        except BaseException as error:
            errors.append(error)

    with server.runtime(carrier) as runtime:
        service = runtime.create_service_client()
        sampler = service.create_sampling_client(base_model="tinker-actors/tiny")
        carrier.held |= {"sample", "poll"}
        making = service.create_lora_training_client_async("tinker-actors/tiny")
        waiting = sampler.sample_async(PROMPT)
        threads = [
            threading.Thread(target=wait, args=(lambda: sampler.sample(PROMPT),)),
            threading.Thread(target=wait, args=(waiting.result,)),
        ]
        for thread in threads:
            thread.start()
        until(lambda: sum(row.kind == "sample" for row in runtime.pending()) == 2)
    for thread in threads:
        thread.join(30)
    assert [type(error) for error in errors] == [ClosedError, ClosedError]
    assert isinstance(making.exception(), ClosedError)


def test_a_future_is_awaited_in_asyncio_only(server: Served) -> None:
    with server.runtime() as runtime:
        _, client = start(runtime)
        future = client.optim_step(AdamParams())
        future.result()

        async def main() -> None:
            with pytest.raises(WrongPlace, match="outside of asyncio"):
                await future

        trio.run(main)


def test_callbacks_may_look_and_never_block(server: Served) -> None:
    carrier = Holding()
    with server.runtime(carrier) as runtime:
        _, client = start(runtime)
        carrier.held.add("train")
        unfinished = client.optim_step(AdamParams())
        found: list[Any] = []
        told = threading.Event()

        def callback(_: object) -> None:
            try:
                found.append(client.model_id)
                unfinished.result()
            except WrongPlace as error:
                found.append(str(error))
                told.set()

        client.get_info_async().add_done_callback(callback)
        assert told.wait(30)
        assert found[0] == client.model_id
        assert found[1].startswith("optim_step would block the loop of a callback")


NAME: contextvars.ContextVar[str] = contextvars.ContextVar("NAME", default="none")


def test_a_call_has_its_callers_context(server: Served) -> None:
    seen: list[str] = []

    class Looking(Holding):  # type: ignore[misc]  # a transport that a test looks through
        async def send(self, request: Any) -> Any:
            if request.purpose == "sample":
                seen.append(NAME.get())
            return await super().send(request)

    with server.runtime(Looking()) as runtime:
        service, _ = start(runtime)
        sampler = service.create_sampling_client(base_model="tinker-actors/tiny")
        NAME.set("mine")
        sampler.sample(PROMPT, 1, SHORT)
    assert seen == ["mine"]


def test_an_asyncio_loop_that_is_held_is_told(server: Served, caplog: pytest.LogCaptureFixture) -> None:
    carrier = Holding("poll")
    with server.runtime(carrier) as runtime:
        service = runtime.create_service_client()
        sampler = service.create_sampling_client(base_model="tinker-actors/tiny")

        async def main() -> None:
            with pytest.raises(WaitTimeout):
                sampler.within(1.5).sample(PROMPT)

        asyncio.run(main())
        assert "sample holds the asyncio loop of this thread" in caplog.text
        caplog.clear()
        with pytest.raises(WaitTimeout):
            sampler.within(1.5).sample(PROMPT)
        assert "holds" not in caplog.text
