"""Samples that arrive token by token in threads and in asyncio: early, in order, and given up where they are left."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import AsyncIterator, Generator, Mapping
from contextlib import aclosing
from typing import Any

import msgspec
import pytest
import trio

from tests.blocking.programs import BASE_MODEL, PROMPT, Holding, engines, until
from tests.blocking.served import Served, served
from tinker_actors.blocking import BlockingRuntime, BlockingStream, SamplingClient
from tinker_actors.errors import ClosedError, InvalidInput, NotStreamed, WaitTimeout, WrongPlace
from tinker_actors.ports import Request, Response
from tinker_actors.types import SampleStreamChunk, SamplingParams

COUNT = 60
LONG = SamplingParams(max_tokens=COUNT, seed=3, stop=())


class Trickle(Holding):
    """HTTP whose streamed samples stop after ``let`` events; ``hidden`` is a server that can't stream."""

    def __init__(self) -> None:
        super().__init__()
        self.let = 10**9
        self.hidden = False
        self.left = 0
        self._held: list[tuple[trio.lowlevel.TrioToken, trio.Event]] = []

    def release(self) -> None:
        """All that is held back, and all later events, may come."""
        self.let = 10**9
        for token, event in self._held:
            token.run_sync_soon(event.set)

    async def until_released(self) -> None:
        event = trio.Event()
        self._held.append((trio.lowlevel.current_trio_token(), event))
        await event.wait()

    async def send(self, request: Request) -> Response:
        if not request.url.endswith("/stream_sample"):
            return await super().send(request)
        if self.hidden:
            request = msgspec.structs.replace(request, url=request.url + "_none")
        return _Trickled(await super().send(request), self)


class _Trickled:
    def __init__(self, inner: Response, carrier: Trickle) -> None:
        self._inner = inner
        self._carrier = carrier

    @property
    def status(self) -> int:
        return self._inner.status

    @property
    def headers(self) -> Mapping[str, str]:
        return self._inner.headers

    async def stream(self) -> AsyncIterator[bytes]:
        buffered, given = b"", 0
        body: Any = self._inner.stream()
        async with aclosing(body) as pieces:
            async for piece in pieces:
                buffered += piece
                while (end := buffered.find(b"\n\n")) >= 0:
                    if given >= self._carrier.let:
                        await self._carrier.until_released()
                    given += 1
                    event, buffered = buffered[: end + 2], buffered[end + 2 :]
                    yield event

    async def read(self, limit: int) -> bytes:
        return await self._inner.read(limit)

    async def aclose(self) -> None:
        self._carrier.left += 1
        await self._inner.aclose()


@pytest.fixture(scope="module")
def server() -> Generator[Served]:
    with served() as server:
        yield server


@pytest.fixture
def carrier() -> Trickle:
    return Trickle()


@pytest.fixture
def runtime(server: Served, carrier: Trickle) -> Generator[BlockingRuntime]:
    with server.runtime(carrier) as runtime:
        yield runtime
    assert engines() == []


@pytest.fixture
def sampler(runtime: BlockingRuntime) -> SamplingClient:
    return runtime.create_service_client().create_sampling_client(base_model=BASE_MODEL)


def _nothing_is_left(runtime: BlockingRuntime, sampler: SamplingClient, server: Served) -> None:
    assert runtime.pending() == ()
    engine = runtime._engine
    until(lambda: (engine._calls, engine._waiting) == (set(), {}))
    until(lambda: server.ask(lambda service: len(service.streams)) == 0)
    sampler.sample(PROMPT, 1, SamplingParams(max_tokens=1))


def test_the_first_token_is_there_before_the_rest_and_all_are_those_of_the_sample(
    server: Served, carrier: Trickle, runtime: BlockingRuntime, sampler: SamplingClient
) -> None:
    whole = sampler.sample(PROMPT, 1, LONG).sequences[0]
    carrier.let = 1
    stream = sampler.sample_stream(PROMPT, LONG)
    chunks = [next(stream)]
    assert not chunks[0].done
    assert any(row.kind == "sample_stream" for row in runtime.pending())
    assert not stream.fallback
    carrier.release()
    chunks += list(stream)
    assert [chunk.token_id for chunk in chunks] == whole.tokens.tolist()
    assert [chunk.done for chunk in chunks] == [False] * (COUNT - 1) + [True]
    assert list(stream) == []
    with sampler.sample_stream(PROMPT, LONG) as stream:
        assert stream.text() == "".join(chunk.token or "" for chunk in chunks)
    _nothing_is_left(runtime, sampler, server)


def _let_go(stream: BlockingStream) -> None:
    for _ in stream:
        break


def _left_block(stream: BlockingStream) -> None:
    with stream:
        next(stream)
    assert stream._arrived.over, "when the block is left, so is the stream"


def _left_by_an_error(stream: BlockingStream) -> None:
    with pytest.raises(ZeroDivisionError), stream:
        next(stream)
        raise ZeroDivisionError


def _closed(stream: BlockingStream) -> None:
    next(stream)
    stream.close()
    assert list(stream) == []
    stream.close()


def _cancelled_in_asyncio(stream: BlockingStream) -> None:
    async def take() -> None:
        async with stream:
            async for _ in stream:
                pass

    async def main() -> None:
        task = asyncio.create_task(take())
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())


@pytest.mark.parametrize("leave", [_let_go, _left_block, _left_by_an_error, _closed, _cancelled_in_asyncio])
def test_a_stream_that_is_left_early_leaves_nothing(
    leave: Any, server: Served, carrier: Trickle, runtime: BlockingRuntime, sampler: SamplingClient
) -> None:
    carrier.let = 3
    leave(sampler.sample_stream(PROMPT, LONG))
    gc.collect()
    until(lambda: carrier.left == 1 and runtime.pending() == ())
    _nothing_is_left(runtime, sampler, server)


def test_a_thread_that_waits_for_a_token_hears_of_its_end(
    carrier: Trickle, runtime: BlockingRuntime, sampler: SamplingClient
) -> None:
    carrier.let = 3
    streams = [sampler.sample_stream(PROMPT, LONG) for _ in range(2)]
    taken: list[list[int]] = [[], []]
    ends: list[BaseException | None] = [None, None]

    def take(index: int) -> None:
        try:
            taken[index] += [chunk.token_id or 0 for chunk in streams[index]]
        except ClosedError as error:
            ends[index] = error

    threads = [threading.Thread(target=take, args=(index,)) for index in range(2)]
    for thread in threads:
        thread.start()
    until(lambda: all(stream._arrived._waiting for stream in streams))
    streams[0].close()
    threads[0].join(60)
    assert ends == [None, None]
    runtime.close()
    threads[1].join(60)
    assert isinstance(ends[1], ClosedError)
    assert not any(thread.is_alive() for thread in threads)
    streams[1].close()
    with pytest.raises(ClosedError):
        sampler.sample_stream(PROMPT, LONG)


def test_several_threads_share_a_stream(sampler: SamplingClient) -> None:
    whole = sampler.sample(PROMPT, 1, LONG).sequences[0].tokens.tolist()
    stream, taken = sampler.sample_stream(PROMPT, LONG), list[int]()
    threads = [
        threading.Thread(target=lambda: taken.extend(int(chunk.token_id or 0) for chunk in stream)) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(taken) == sorted(whole)


def test_asyncio_takes_it_and_goes_on_meanwhile(carrier: Trickle, sampler: SamplingClient) -> None:
    whole = sampler.sample(PROMPT, 1, LONG).sequences[0].tokens.tolist()
    carrier.let = 1

    async def main() -> list[int | None]:
        async with sampler.sample_stream(PROMPT, LONG) as stream:
            assert not stream.fallback
            first = await anext(stream)
            carrier.release()
            other = asyncio.create_task(asyncio.sleep(0, "done"))
            rest = [chunk async for chunk in stream]
            assert other.done()
        return [first.token_id, *(chunk.token_id for chunk in rest)]

    assert asyncio.run(main()) == whole


def test_a_wait_that_takes_too_long_says_so_and_the_stream_goes_on(carrier: Trickle, sampler: SamplingClient) -> None:
    carrier.let = 1
    stream = sampler.within(0.5).sample_stream(PROMPT, LONG)
    until(lambda: bool(stream._arrived._chunks))
    next(stream)
    with pytest.raises(WaitTimeout, match="1 tokens have come"):
        next(stream)
    carrier.release()
    until(lambda: stream._arrived.over)
    assert len(list(stream)) == COUNT - 1


def test_a_server_that_can_not_stream_is_told_of(carrier: Trickle, sampler: SamplingClient) -> None:
    carrier.hidden = True
    with pytest.raises(NotStreamed, match="fallback=True"):
        next(sampler.sample_stream(PROMPT, LONG))
    with pytest.raises(NotStreamed), sampler.sample_stream(PROMPT, LONG):
        pytest.fail("it has begun")
    with pytest.raises(NotStreamed):
        asyncio.run(_first(sampler.sample_stream(PROMPT, LONG)))
    stream = sampler.sample_stream(PROMPT, LONG, fallback=True)
    assert stream.fallback
    assert len(list(stream)) == COUNT


async def _first(stream: BlockingStream) -> object:
    async with stream:
        return await anext(stream)


def test_a_bad_value_is_refused_at_the_call(runtime: BlockingRuntime, sampler: SamplingClient) -> None:
    calls: dict[str, Any] = {
        "prompt": lambda: sampler.sample_stream([1]),  # type: ignore[arg-type]
        "timeout": lambda: sampler.sample_stream(PROMPT, timeout=0.0),
        "fallback": lambda: sampler.sample_stream(PROMPT, fallback="yes"),  # type: ignore[arg-type]
    }
    for field, call in calls.items():
        with pytest.raises(InvalidInput, match=field):
            call()
    assert runtime.pending() == ()

    async def within_trio() -> None:
        with pytest.raises(WrongPlace, match="open_runtime"):
            sampler.sample_stream(PROMPT)

    trio.run(within_trio)
    sampler.aclose()
    with pytest.raises(ClosedError):
        sampler.sample_stream(PROMPT)


def test_a_stream_is_taken_in_threads_and_asyncio_only(carrier: Trickle, sampler: SamplingClient) -> None:
    carrier.let = 0
    stream = sampler.sample_stream(PROMPT, LONG)

    async def plainly() -> None:
        next(stream)

    async def as_trio_does() -> None:
        await anext(stream)

    for taken in (plainly, as_trio_does):
        with pytest.raises(WrongPlace, match="open_runtime"):
            trio.run(taken)
    carrier.release()
    assert len(list(stream)) == COUNT


@pytest.mark.parametrize("front", ["thread", "asyncio"])
def test_no_token_is_lost_between_a_look_and_the_end(front: str, carrier: Trickle, sampler: SamplingClient) -> None:
    carrier.let = 0
    stream = sampler.sample_stream(PROMPT, LONG)
    look = stream._arrived.take

    def looked_too_early() -> SampleStreamChunk | None:
        found = look()
        carrier.release()
        until(lambda: stream._arrived.over)
        return found

    stream._arrived.take = looked_too_early  # type: ignore[method-assign]

    async def taken() -> int:
        return len([chunk async for chunk in stream])

    assert (len(list(stream)) if front == "thread" else asyncio.run(taken())) == COUNT
