"""As in a notebook: a loop runs in the main thread, and the runtime stays open from cell to cell."""

from __future__ import annotations

import signal
import sys
import threading
import types
from collections.abc import Generator

import pytest

from tests.blocking.cells import Notebook
from tests.blocking.programs import BASE_MODEL, PROMPT, SHORT, Holding, batch, engines, start, until
from tests.blocking.served import Served, served
from tinker_actors.types import AdamParams


@pytest.fixture
def server() -> Generator[Served]:
    with served() as server:
        yield server


def test_cells_block_and_await_as_they_like(server: Served) -> None:
    book = Notebook(server=server, start=start, batch=batch, AdamParams=AdamParams, PROMPT=PROMPT, SHORT=SHORT)
    book.run(
        "runtime = server.runtime()",
        "service, client = start(runtime)",
        "step = client.forward_backward(batch(1)); update = client.optim_step(AdamParams())",
        "first = step.result().metrics['loss:sum']",
        "update = await update",
        "second = (await client.forward(batch(1))).metrics['loss:sum']",
        "sampler = client.save_weights_and_get_sampling_client()",
        "one = sampler.sample(PROMPT, 1, SHORT); other = await sampler.sample_async(PROMPT, 1, SHORT)",
        "again = await client.get_info_async()",
        "runtime.close()",
    )
    assert book.names["first"] != book.names["second"]
    assert book.names["one"].sequences[0].tokens.tolist() == book.names["other"].sequences[0].tokens.tolist()
    assert engines() == []
    assert "(success)" in str(server.ends()[0])


def test_an_interrupted_cell_leaves_the_runtime_as_it_was(server: Served) -> None:
    carrier = Holding("sample")
    with server.runtime(carrier) as runtime:
        service, client = start(runtime)
        sampler = service.create_sampling_client(base_model=BASE_MODEL)

        def press() -> None:
            until(lambda: len(runtime.pending()) == 1)
            main = threading.main_thread().ident
            assert main is not None
            signal.pthread_kill(main, signal.SIGINT)

        threading.Thread(target=press, daemon=True).start()
        with pytest.raises(KeyboardInterrupt):
            sampler.sample(PROMPT)
        until(lambda: runtime.pending() == ())
        assert client.forward(batch(1)).result() is not None


def test_a_cell_may_hold_the_loop(
    server: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "ipykernel", types.ModuleType("ipykernel"))
    carrier = Holding()
    with server.runtime(carrier) as runtime:
        service = runtime.create_service_client()
        sampler = service.create_sampling_client(base_model=BASE_MODEL)
        carrier.held.add("sample")
        book = Notebook(sampler=sampler.within(1.2), PROMPT=PROMPT)
        with pytest.raises(TimeoutError, match="sample was given up"):
            book.run("sampler.sample(PROMPT)")
    assert "holds the asyncio loop" not in caplog.text
