"""What does the local server do, and what does it cost? The engine beside torch, requests, promises, starts, memory.

*Engine*: the demo's own work (see ``engine``) beside the same model in eager torch, both on one thread and in CPU
time of that thread. Without torch in the environment there is no comparison, and the note says so.
*Server*: a process of its own, as ``tinker-actors serve`` starts it, over loopback. Its times are of the clock, so a
busy machine shows in them.
"""

from __future__ import annotations

import http.client
import importlib.metadata
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, TypeAlias

import httpx
import msgspec
import trio

from benchmarks import engine as engine_rows
from benchmarks.demo_work import RANK, prompts, training_data
from benchmarks.rows import Goal, Row
from benchmarks.server_process import KEY, ServerProcess, running_server
from tinker_actors import ModelInput, SamplingParams, open_runtime
from tinker_actors.local.engine import BASE_S, TINY, Engine, SaveState, load_base
from tinker_actors.types import SampleRequest

__all__ = ["run"]

_CLIENTS: Final = 8
_Start: TypeAlias = tuple[float, float]
"""Milliseconds of the clock, and of CPU."""
_SESSION: Final = {"tags": [], "user_metadata": {}, "sdk_version": "0"}
_PARAMS: Final = {"max_tokens": 1, "temperature": 0.0, "stop": [], "seed": 1}


def run(
    *,
    repeats: int = 8,
    steps: int = 2,
    count: int = 100,
    seconds: float = 3.0,
    promises: int = 200,
    models: int = 100,
    idle: int = 200,
    samples: int = 5_000,
    starts: int = 3,
) -> list[Row]:
    """The rows; the arguments say how much is done for each, and tests ask for little."""
    return [
        *_engine_rows(steps, count, repeats),
        *_request_rows(seconds, promises),
        *_restart_rows(models, starts),
        _memory_row(idle),
        _load_row(samples),
        *_start_rows(starts),
    ]


def _engine_rows(steps: int, count: int, repeats: int) -> list[Row]:
    ours = {row.figure: row for row in engine_rows.run(steps, count, repeats)}
    rates = _torch_rates(steps, count, repeats) if find_spec("torch") is not None else {}
    rows: list[Row] = []
    for kind in ("training", "sampling"):
        row = ours[f"engine_{kind}_tokens_per_s"]
        renamed = msgspec.structs.replace(row, figure=f"local_server_{kind}_tokens_per_s")
        if kind in rates:
            versus = f"torch {importlib.metadata.version('torch')}, eager, one thread"
            goal = Goal(must=0.7, aim=1.0, at_most=False, of="ratio")
            note = f"{row.note}; torch {rates[kind]:.0f}"
            ratio = row.value / rates[kind]
            renamed = msgspec.structs.replace(renamed, versus=versus, ratio=ratio, goal=goal, note=note)
        else:
            renamed = msgspec.structs.replace(renamed, note=f"{row.note}; torch is not installed: no comparison")
        share = msgspec.structs.replace(
            ours[f"engine_{kind}_matmul_share"], figure=f"local_server_{kind}_matmul_share"
        )
        rows += [renamed, share]
    return rows


def _torch_rates(steps: int, count: int, repeats: int) -> dict[str, float]:
    """Tokens a second of the same work in torch, which must give the same losses and tokens."""
    import torch

    from benchmarks.torch_engine import TorchEngine

    torch.set_num_threads(1)
    batches, asked = training_data(steps), prompts(count)
    engine = Engine()
    train = engine_rows.trainer(engine, batches)
    other = TorchEngine(load_base(BASE_S), RANK, engine.apply(SaveState("model")).weights)
    expected = [
        response.sequences[0].tokens.tolist()
        for response in engine.sample_many(BASE_S, None, [_greedy(prompt) for prompt in asked])
    ]
    alike = sum(a == b for a, b in zip(expected, other.sample(asked, engine_rows.NEW_TOKENS), strict=True))
    assert alike >= 0.95 * count, f"torch samples {alike} of {count} prompts alike"  # ties may fall otherwise
    losses = [other.step(batch) for batch in batches]
    train()
    assert all(loss > 0 for loss in losses)
    trained = sum(datum.model_input.length for batch in batches for datum in batch)
    train_seconds = _best(lambda: [other.step(batch) for batch in batches], repeats)
    sample_seconds = _best(lambda: other.sample(asked, engine_rows.NEW_TOKENS), repeats)
    return {"training": trained / train_seconds, "sampling": count * engine_rows.NEW_TOKENS / sample_seconds}


def _greedy(prompt: ModelInput) -> SampleRequest:
    params = SamplingParams(max_tokens=engine_rows.NEW_TOKENS, temperature=0.0, stop=[], seed=0)
    return SampleRequest(prompt=prompt, num_samples=1, sampling_params=params)


def _best(work: Callable[[], object], repeats: int) -> float:
    work()
    found: list[float] = []
    for _ in range(repeats):
        begun = time.thread_time()
        work()
        found.append(time.thread_time() - begun)
    return min(found)


class _Caller:
    """One blocking client with a connection of its own."""

    def __init__(self, server: ServerProcess) -> None:
        self._http = httpx.Client(base_url=server.url + "/api/v1", headers={"x-api-key": KEY}, timeout=120)

    def post(self, path: str, body: Any) -> Any:
        answer = self._http.post(path, json=body)
        answer.raise_for_status()
        return answer.json()

    def result(self, promise: str) -> Any:
        while (answer := self.post("/retrieve_future", {"request_id": promise})).get("type") == "try_again":
            pass
        assert "error" not in answer, answer
        return answer

    def session(self) -> str:
        return self.post("/create_session", _SESSION)["session_id"]

    def model(self, session: str, number: int, base: str, rank: int) -> str:
        lora = {"rank": rank, "seed": number, "train_unembed": False}
        body = {"session_id": session, "model_seq_id": number, "base_model": base, "lora_config": lora}
        return self.result(self.post("/create_model", body)["request_id"])["model_id"]

    def close(self) -> None:
        self._http.close()


def _request_rows(seconds: float, promises: int) -> list[Row]:
    with running_server("--base-model", TINY) as server:
        healthz, cpu = _rate(server, seconds)
        caller = _Caller(server)
        session = caller.session()
        opened = {"session_id": session, "sampling_session_seq_id": 0, "base_model": TINY}
        sampler = caller.post("/create_sampling_session", opened)["sampling_session_id"]
        waits: list[float] = []
        for number in range(promises):
            body = {
                "sampling_session_id": sampler,
                "seq_id": number,
                "prompt": {"chunks": [{"type": "encoded_text", "tokens": [1, 2, 3]}]},
                "sampling_params": _PARAMS,
            }
            promise = caller.post("/asample", body)["request_id"]
            begun = time.perf_counter()
            caller.result(promise)
            waits.append(1000 * (time.perf_counter() - begun))
        caller.close()
    engine = Engine()
    request = SampleRequest(
        prompt=ModelInput.from_ints([1, 2, 3]),
        num_samples=1,
        sampling_params=SamplingParams(max_tokens=1, temperature=0.0, stop=[], seed=1),
    )
    alone = 1000 * _best(lambda: engine.sample(TINY, None, request), 20)
    return [
        Row(
            figure="local_server_requests_per_s",
            value=healthz,
            unit="requests/s",
            note=f"GET /healthz, {_CLIENTS} kept connections, clients on the same machine; {cpu:.2f} ms of the "
            "server's CPU each",
        ),
        Row(
            figure="local_server_promise_to_result_ms",
            value=statistics.median(waits),
            unit="ms",
            versus="the engine alone",
            ratio=statistics.median(waits) / alone,
            note=f"median of {promises} samples of one token from the tiny model, from the promise to the result "
            f"at the client; engine {alone:.2f}",
        ),
    ]


def _rate(server: ServerProcess, seconds: float) -> tuple[float, float]:
    """Requests a second to /healthz, and the server's CPU milliseconds for each."""
    done = [0] * _CLIENTS
    ending = time.perf_counter() + seconds

    def ask(index: int) -> None:
        connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=60)
        while not done[index] or time.perf_counter() < ending:
            connection.request("GET", "/api/v1/healthz")
            answer = connection.getresponse()
            answer.read()
            assert answer.status == 200
            done[index] += 1
        connection.close()

    begun, used = time.perf_counter(), server.cpu_seconds()
    threads = [threading.Thread(target=ask, args=(index,)) for index in range(_CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    total = sum(done)
    return total / (time.perf_counter() - begun), 1000 * (server.cpu_seconds() - used) / total


def _restart_rows(models: int, starts: int) -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        options = ("--base-model", TINY, "--directory", folder)
        empty = [_start_seconds(*options) for _ in range(starts)]
        with running_server(*options) as server:
            caller = _Caller(server)
            session = caller.session()
            for number in range(models):
                model = caller.model(session, number, TINY, 8)
                caller.result(
                    caller.post("/save_weights", {"model_id": model, "seq_id": 1, "path": "a"})["request_id"]
                )
            caller.close()
        full = [_start_seconds(*options) for _ in range(starts)]
    value, other = 1000 * statistics.median(full), 1000 * statistics.median(empty)
    return [
        Row(
            figure=f"local_server_restart_{models}_models_ms",
            value=value,
            unit="ms",
            versus="an empty directory",
            ratio=value / other,
            note=f"from the process's start to its first line, Python's own start included; median of {starts}; "
            f"empty {other:.0f}",
        )
    ]


def _start_seconds(*options: str) -> float:
    begun = time.perf_counter()
    with running_server(*options):
        return time.perf_counter() - begun


def _memory_row(idle: int) -> Row:
    with running_server() as server:
        caller = _Caller(server)
        session = caller.session()
        caller.model(session, 0, BASE_S, RANK)
        before = server.memory_kib()
        for number in range(1, idle + 1):
            caller.model(session, number, BASE_S, RANK)
        after = server.memory_kib()
        caller.close()
    return Row(
        figure="local_server_memory_per_idle_model",
        value=(after - before) / idle,
        unit="KiB",
        note=f"resident; base-s, rank {RANK}, attention and MLP, never trained; mean of {idle}",
    )


def _load_row(samples: int) -> Row:
    with running_server("--base-model", TINY) as server:
        before, used = server.memory_kib(), server.cpu_seconds()
        seconds = trio.run(partial(_sample_all, server.url, samples))
        cpu = server.cpu_seconds() - used
        peak = server.memory_kib("VmHWM")
    return Row(
        figure=f"local_server_{samples}_samples_s",
        value=seconds,
        unit="s",
        goal=Goal(must=60),
        note=f"all at one time over loopback, 2 tokens each, tiny model, none failed; {cpu:.1f} s of the server's "
        f"CPU; its memory rose by {(peak - before) / 1024:.0f} MiB at most",
    )


async def _sample_all(url: str, samples: int) -> float:
    async with open_runtime(base_url=url, api_key=KEY, seed=0) as runtime:
        sampler = await (await runtime.create_service_client()).create_sampling_client(base_model=TINY)
        begun = time.perf_counter()
        async with trio.open_nursery() as nursery:
            for number in range(samples):
                params = SamplingParams(max_tokens=2, stop=[], seed=number)
                nursery.start_soon(sampler.sample, ModelInput.from_ints([1, 2]), 1, params)
        assert runtime.counters()["samples_done"] == samples
        return time.perf_counter() - begun


_LIBRARY = """
import time; begun = time.perf_counter(); used = time.process_time()
import trio, tinker_actors as ta
async def main():
    async with ta.local_server({arguments}) as server:
        print(time.perf_counter() - begun, time.process_time() - used)
trio.run(main)
"""

_FIXTURE = """
import time

def start(request):
    begun, used = time.perf_counter(), time.process_time()
    request.getfixturevalue("tinker_server")
    print("\\nstarted", time.perf_counter() - begun, time.process_time() - used)

def test_first(request):
    start(request)

def test_again(request):
    start(request)
"""


def _start_rows(starts: int) -> list[Row]:
    goal = Goal(must=1000)
    memory = [_library_ms("") for _ in range(starts)]
    loopback = [_library_ms("loopback=True") for _ in range(starts)]
    fixture = [_fixture_ms() for _ in range(starts)]
    imported = "all imports included"
    rows = [
        ("library", memory, f"local_server() in memory, with the packaged model, {imported}"),
        ("loopback", loopback, f"local_server(loopback=True), {imported}"),
        ("fixture", [first for first, _ in fixture], f"tinker_server in the first test that asks for it, {imported}"),
        ("fixture_again", [again for _, again in fixture], "tinker_server in a later test"),
    ]
    return [
        Row(
            figure=f"local_server_{figure}_start_ms",
            value=statistics.median(wall for wall, _ in found),
            unit="ms",
            goal=goal,
            note=f"{what}; median of {starts}; {min(cpu for _, cpu in found):.0f} ms of CPU, which is what an idle "
            "machine takes",
        )
        for figure, found, what in rows
    ]


def _library_ms(arguments: str) -> _Start:
    program = _LIBRARY.format(arguments=arguments)
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=120)
    return _start(done.stdout)


def _fixture_ms() -> tuple[_Start, _Start]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (folder / "test_starts.py").write_text(_FIXTURE)
        (folder / "conftest.py").write_text("from tinker_actors.testing.pytest_plugin import *  # noqa\n")
        command = [sys.executable, "-m", "pytest", "-q", "-s", "-p", "no:cacheprovider", str(folder)]
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
    first, again = re.findall(r"^started (.+)$", done.stdout, re.MULTILINE)
    return _start(first), _start(again)


def _start(text: str) -> _Start:
    wall, cpu = text.split()
    return 1000 * float(wall), 1000 * float(cpu)
