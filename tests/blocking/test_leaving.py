"""Whatever ends a program, or its block, leaves nothing behind: no thread, no socket, no session at the server."""

from __future__ import annotations

import asyncio
import os
import signal
import textwrap
import threading
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from tests.blocking.programs import Holding, engines, runtime_at, start, until
from tests.blocking.running import end_of, program
from tests.blocking.served import Served, served
from tinker_actors.blocking import BlockingRuntime, blocking_runtime
from tinker_actors.blocking.engine import Engine
from tinker_actors.errors import ClosedError, CredentialError, WrongPlace
from tinker_actors.runtime import Runtime, open_runtime
from tinker_actors.sessions import manager
from tinker_actors.wire.transport import HttpTransport


@pytest.fixture
def server() -> Generator[Served]:
    with served() as server:
        yield server


def _sessions_end(server: Served, how: str) -> None:
    """Every session has ended as ``how``: told by the program itself, since the server waits minutes for beats."""
    until(lambda: None not in server.ends())
    ends = server.ends()
    assert ends
    assert all(f"({how})" in str(end) for end in ends), ends


IN_A_WAIT = {
    "a future's result": "client.optim_step(AdamParams()).result()",
    "a future's error": "client.optim_step(AdamParams()).exception(600)",
    "a blocking call": "sampler.sample(PROMPT)",
    "an asyncio program": """
        async def main():
            await client.optim_step(AdamParams())
        asyncio.run(main())
    """,
    "several of asyncio's": """
        async def main():
            async with asyncio.TaskGroup() as tasks:
                for _ in range(3):
                    tasks.create_task(waiting(sampler.sample_async(PROMPT)))
        async def waiting(future):
            await future
        asyncio.run(main())
    """,
}


@pytest.mark.process
@pytest.mark.parametrize("wait", IN_A_WAIT.values(), ids=IN_A_WAIT.keys())
def test_ctrl_c_in_a_wait_ends_the_program_and_its_session(server: Served, wait: str) -> None:
    code = """
    with opened() as runtime:
        service, client = start(runtime)
        sampler = service.create_sampling_client(base_model=BASE_MODEL)
        held.held |= {"poll"}
        threading.Thread(target=lambda: (until(lambda: runtime.pending()), say("waiting")), daemon=True).start()
    """
    code = textwrap.dedent(code) + textwrap.indent(textwrap.dedent(wait).strip("\n"), "    ")
    with program(server, code) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n"
        process.send_signal(signal.SIGINT)
        status, text = end_of(process)
        assert status == -signal.SIGINT, text
        assert text.strip().endswith("KeyboardInterrupt")
    _sessions_end(server, "interrupted")


ENDS = {
    "the end of a script that never leaves its block": ("runtime = opened(); start(runtime)", 0, "interrupted"),
    "sys.exit in the block": (
        """
        with opened() as runtime:
            start(runtime)
            sys.exit(3)
        """,
        3,
        "interrupted",
    ),
    "sys.exit without a block": ("runtime = opened(); start(runtime); sys.exit(4)", 4, "interrupted"),
    "an exception in the block": (
        """
        with opened() as runtime:
            start(runtime)
            raise ValueError("odd")
        """,
        1,
        "errored",
    ),
    "an exception without a block": ("runtime = opened(); start(runtime); raise ValueError('odd')", 1, "interrupted"),
    "the end of the block": (
        """
        with opened() as runtime:
            start(runtime)
        assert engines() == []
        """,
        0,
        "success",
    ),
    "the end while a thread waits": (
        """
        runtime = opened()
        service, client = start(runtime)
        held.held |= {"train"}
        def wait():
            try:
                client.optim_step(AdamParams()).result()
            except Exception as error:
                assert type(error).__name__ == "ClosedError", error
                os.write(1, b"told\\n")
        threading.Thread(target=wait).start()
        until(lambda: runtime.pending())
        """,
        0,
        "interrupted",
    ),
    "futures and a stream that nobody waits for": (
        """
        runtime = opened()
        service, client = start(runtime)
        sampler = service.create_sampling_client(base_model=BASE_MODEL)
        held.held |= {"train", "poll"}
        kept = [client.optim_step(AdamParams()), sampler.sample_async(PROMPT), sampler.sample_stream(PROMPT)]
        kept += [client.forward_backward(batch(seed)) for seed in range(20)]
        kept[0].add_done_callback(lambda future: os.write(1, type(future.exception()).__name__.encode() + b"\\n"))
        until(lambda: len(runtime.pending()) > 20)
        """,
        0,
        "interrupted",
    ),
    "a block that is left with futures that nobody waits for": (
        """
        with opened() as runtime:
            service, client = start(runtime)
            sampler = service.create_sampling_client(base_model=BASE_MODEL)
            held.held |= {"train", "poll"}
            kept = [client.optim_step(AdamParams()), sampler.sample_async(PROMPT)]
            stream = sampler.sample_stream(PROMPT)
        assert engines() == []
        assert [type(future.exception(0)).__name__ for future in kept] == ["ClosedError"] * 2
        try:
            list(stream)
        except Exception as error:
            assert type(error).__name__ == "ClosedError"
        """,
        0,
        "success",
    ),
    "an asyncio loop that is stopped and closed": (
        """
        with opened() as runtime:
            service, client = start(runtime)
            held.held |= {"train"}
            loop = asyncio.new_event_loop()
            async def wait():
                await client.optim_step(AdamParams())
            loop.call_later(0.05, loop.stop)
            task = loop.create_task(wait())
            loop.run_forever()
            loop.close()
            task._log_destroy_pending = False
            loop.set_debug(False)
        """,
        0,
        "success",
    ),
}


@pytest.mark.process
@pytest.mark.parametrize(("code", "status", "how"), ENDS.values(), ids=ENDS.keys())
def test_any_other_end_finishes_the_session_too(server: Served, code: str, status: int, how: str) -> None:
    with program(server, code) as process:
        found, text = end_of(process)
        assert found == status, text
        assert ("told" in text) == ("wait()" in code and "told" in code)
        assert ("ClosedError" in text) == ("add_done_callback" in code), text
        assert ("Traceback" in text) == (status == 1), text
    _sessions_end(server, how)


def test_leaving_the_block_leaves_no_thread_and_no_socket(server: Served) -> None:
    open_before = _sockets()
    with server.runtime() as runtime:
        start(runtime)
        assert len(engines()) == 1
        assert _sockets() > open_before
    assert engines() == []
    until(lambda: _sockets() == open_before)  # the server's ends of the connections are among them


def _sockets() -> int:
    """Sockets, pipes and pollers of this process."""
    links = [link.readlink() for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    return sum(any(kind in str(link) for kind in ("socket", "eventpoll", "pipe")) for link in links)


def _press() -> None:
    """^C, as the terminal sends it."""
    main = threading.main_thread().ident
    assert main is not None
    signal.pthread_kill(main, signal.SIGINT)


def test_a_second_ctrl_c_gives_up_what_takes_time(server: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manager, "_FINISHED_WITHIN", 600.0)
    carrier = Holding()
    runtime = server.runtime(carrier)
    start(runtime)
    carrier.held.add("session")

    def press() -> None:
        until(lambda: any(row.kind == "finish_session" for row in runtime.pending()))
        _press()

    threading.Thread(target=press, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        runtime.close()
    assert engines() == []


def test_ctrl_c_while_it_opens_leaves_no_thread(server: Served) -> None:
    opening = threading.Event()

    def press() -> None:
        opening.wait()
        _press()

    @asynccontextmanager
    async def never() -> AsyncGenerator[Runtime]:
        opening.set()
        await trio.sleep_forever()
        raise AssertionError
        yield

    threading.Thread(target=press, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        Engine(never).open()
    assert engines() == []


def test_what_can_not_be_opened_says_why_and_leaves_no_thread() -> None:
    with pytest.raises(CredentialError):
        runtime_at("http://127.0.0.1:1", "no key")
    assert engines() == []


def test_a_failure_of_the_runtime_itself_ends_every_wait_and_is_raised_where_the_block_ends(server: Served) -> None:
    class Odd(Exception): ...

    told = threading.Event()

    @asynccontextmanager
    async def failing() -> AsyncGenerator[Runtime]:
        async def fail() -> None:
            await trio.to_thread.run_sync(told.wait)
            raise Odd

        async with (
            trio.open_nursery() as nursery,
            open_runtime(base_url=server.url, api_key=server.key) as runtime,
        ):
            nursery.start_soon(fail)
            yield runtime

    engine = Engine(failing)
    closed: list[BaseException | None] = []
    with pytest.RaisesGroup(Odd), BlockingRuntime(engine, engine.open()) as runtime:
        service, client = start(runtime)
        waiting = client._engine.start("waiting", trio.sleep_forever)
        told.set()
        closed += [waiting.exception(60)]
        with pytest.raises(ClosedError, match="the runtime was closed") as caught:
            service.get_server_capabilities()
        closed += [caught.value.__cause__]
    assert isinstance(closed[0], ClosedError)
    assert isinstance(closed[1], ExceptionGroup)
    assert engines() == []


def test_signals_are_left_alone(server: Served) -> None:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
    before = [signal.getsignal(number) for number in numbers]
    with server.runtime() as runtime:
        start(runtime)
        assert [signal.getsignal(number) for number in numbers] == before
        assert signal.set_wakeup_fd(-1) == -1
        heard: list[int] = []

        async def main() -> None:
            loop = asyncio.get_running_loop()
            told = asyncio.Event()
            loop.add_signal_handler(signal.SIGUSR1, told.set)
            os.kill(os.getpid(), signal.SIGUSR1)
            await asyncio.wait_for(told.wait(), 60)
            heard.append(signal.SIGUSR1)
            loop.remove_signal_handler(signal.SIGUSR1)

        asyncio.run(main())
    assert heard == [signal.SIGUSR1]


async def test_it_does_not_open_within_trio(server: Served) -> None:
    with pytest.raises(WrongPlace, match="open_runtime"):
        server.runtime()
    assert engines() == []


def test_a_transport_is_closed_with_its_runtime(server: Served) -> None:
    carrier = HttpTransport()
    with blocking_runtime(base_url=server.url, api_key=server.key, transport=carrier) as runtime:
        start(runtime)
        assert carrier.connections > 0
    assert carrier.connections == 0
