"""A forked process has none of its parent's engine: each use there says so, and none disturbs the parent."""

from __future__ import annotations

import textwrap
from collections.abc import Generator

import pytest

from tests.blocking.running import end_of, program
from tests.blocking.served import Served, served


@pytest.fixture
def server() -> Generator[Served]:
    with served() as server:
        yield server


CHECK = """
def refused(uses):
    for name, use in uses.items():
        try:
            use()
        except RuntimeError as error:
            if type(error).__name__ != "WrongPlace" or "forked" not in str(error) or "spawn" not in str(error):
                say(f"{name}: {error!r}")
        else:
            say(f"{name} was not refused")

def parent(child):
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    say(f"child {status}")
"""


@pytest.mark.process
def test_blocking_handles_say_so_in_a_forked_process_whose_end_touches_nothing(server: Served) -> None:
    code = """
    async def awaiting():
        await unfinished
    with opened() as runtime:
        service, client = start(runtime)
        sampler = service.create_sampling_client(base_model=BASE_MODEL)
        held.held |= {"train"}
        unfinished = client.optim_step(AdamParams())
        held.held |= {"poll"}
        stream = sampler.sample_stream(PROMPT, SHORT)
        next(stream)
        list(stream)
        held.held |= {"sample"}
        begun = sampler.sample_stream(PROMPT)
        child = os.fork()
        if child == 0:
            refused({
                "stream": lambda: sampler.sample_stream(PROMPT),
                "token": lambda: next(begun),
                "head": lambda: begun.fallback,
                "close": begun.close,
                "call": client.get_info,
                "twin": client.get_info_async,
                "operation": lambda: client.optim_step(AdamParams()),
                "operation at once": lambda: client.optim_step_async(AdamParams()),
                "property": lambda: client.model_id,
                "plain": runtime.pending,
                "sample": lambda: sampler.sample(PROMPT),
                "result": unfinished.result,
                "result in time": lambda: unfinished.result(5),
                "exception": unfinished.exception,
                "cancel": unfinished.cancel,
                "await": lambda: asyncio.run(awaiting()),
                "service": runtime.create_service_client,
            })
            sys.exit(7)
        parent(child)
        begun.close()
        assert client.get_info().model_id == client.model_id
        assert service.state == "active"
    """
    with program(server, CHECK + textwrap.dedent(code)) as process:
        status, text = end_of(process)
        assert (status, text.splitlines()[:-1]) == (0, ["child 7"])
        assert "optim_step #1" in text  # of which the parent's end says that it had no result
    assert len(server.ends()) == 1
    assert "(success)" in str(server.ends()[0])


@pytest.mark.process
def test_trio_handles_say_so_in_a_forked_process(server: Served) -> None:
    code = """
    import trio
    from tinker_actors import open_runtime
    async def main():
        async with open_runtime(base_url=os.environ["URL"], api_key="tml-local") as runtime:
            service = await runtime.create_service_client()
            client = await service.create_lora_training_client(BASE_MODEL, rank=2)
            sampler = await service.create_sampling_client(base_model=BASE_MODEL)
            unfinished = await client.optim_step(AdamParams())
            child = os.fork()
            if child == 0:
                refused({
                    "operation": lambda: client.optim_step_async(AdamParams()),
                    "call": lambda: client.get_info().send(None),
                    "service": lambda: runtime.create_service_client().send(None),
                    "sample": lambda: sampler.sample(PROMPT).send(None),
                    "result": lambda: unfinished.result().send(None),
                    "cancel": unfinished.cancel,
                })
                os._exit(7)
            parent(child)
            await unfinished
    trio.run(main)
    """
    with program(server, CHECK + textwrap.dedent(code)) as process:
        assert end_of(process) == (0, "child 7\n")


@pytest.mark.process
def test_a_forked_worker_of_multiprocessing_says_so(server: Served) -> None:
    code = """
    import multiprocessing
    def work(client):
        refused({"operation": lambda: client.optim_step(AdamParams())})
        sys.exit(7)
    with opened() as runtime:
        service, client = start(runtime)
        worker = multiprocessing.get_context("fork").Process(target=work, args=(client,))
        worker.start()
        worker.join()
        say(f"child {worker.exitcode}")
        client.optim_step(AdamParams()).result()
    """
    with program(server, CHECK + textwrap.dedent(code)) as process:
        assert end_of(process) == (0, "child 7\n")
    assert "(success)" in str(server.ends()[0])
