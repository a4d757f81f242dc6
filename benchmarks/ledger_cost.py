"""What the ledger itself costs a training step: time and function calls in it, as shares of the client's own.

The client faces the canned server over loopback, as in the benchmark of the client: its time is the CPU of its loop's
thread, wire included. The ledger's time is that thread's in the ledger's methods, and in the steps of the task that
spills. What the watch itself takes is taken off both.
"""

from __future__ import annotations

import functools
import inspect
import random
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Final, TypeVar, final

import msgspec
import trio

import tinker_actors as ta
from benchmarks.canned import MODEL, canned_server
from benchmarks.client_counters import CannedTransport
from supervision.testing import run_seeded
from tinker_actors.ledger import Ledger
from tinker_actors.ports import FileDisk, InlineOffload, Offload, ThreadOffload
from tinker_actors.testing.disk import SimulatedDisk

__all__ = ["LedgerCalls", "LedgerCost", "data", "ledger_calls", "ledger_cost"]

T = TypeVar("T")
_LEDGER: Final = str(Path(inspect.getfile(Ledger)).parent)
_SPILLER: Final = "runtime/spill/write"
_WARM_UP: Final = 2


class LedgerCost(msgspec.Struct, frozen=True, kw_only=True):
    """Milliseconds of CPU for a step, of the client's whole loop and of the ledger in it; and for each megabyte that
    was spilled and read back, away from the loop (0 where nothing was).
    """

    client: float
    ledger: float
    write_per_mb: float
    read_per_mb: float
    spilled_mb: float

    @property
    def share(self) -> float:
        """The ledger's, in percent."""
        return 100 * self.ledger / self.client


class LedgerCalls(msgspec.Struct, frozen=True, kw_only=True):
    """Python functions called for a step, in the ledger's own files and in all."""

    ledger: float
    all: float

    @property
    def share(self) -> float:
        """The ledger's, in percent."""
        return 100 * self.ledger / self.all


def data(datums: int, tokens: int) -> list[ta.Datum]:
    """A batch of ``datums`` of so many ``tokens`` each."""
    ids = list(range(1, tokens + 1))
    inputs = {"target_tokens": ids, "weights": [1.0] * tokens}
    return [ta.Datum(ta.ModelInput.from_ints(ids), inputs) for _ in range(datums)]


def ledger_cost(datums: int, tokens: int, *, steps: int, spilled: bool) -> LedgerCost:
    """What ``steps`` steps of such batches cost; ``spilled``: memory holds none of them once they are done."""
    with tempfile.TemporaryDirectory(prefix="spilled-") as folder:
        return trio.run(_served_cost, data(datums, tokens), tokens, steps, folder if spilled else None)


def ledger_calls(datums: int, tokens: int, *, steps: int, spilled: bool) -> LedgerCalls:
    """The same in calls, which every machine has alike."""
    return run_seeded(
        functools.partial(_calls, data(datums, tokens), tokens, steps, spilled=spilled), seed=1, limit=1e6
    )


# ---- time


@final
class _Watch(trio.abc.Instrument):
    """CPU time of the loop's thread in what is to be watched; outermost calls only."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.times = 0
        self._depth = 0
        self._began = 0.0

    def __enter__(self) -> None:
        if self._depth == 0:
            self.times += 1
            self._began = time.thread_time()
        self._depth += 1

    def __exit__(self, *error: object) -> None:
        self._depth -= 1
        if self._depth == 0:
            self.seconds += time.thread_time() - self._began

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        if task.name.endswith(_SPILLER):
            self.__enter__()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        if task.name.endswith(_SPILLER):
            self.__exit__()


@contextmanager
def _watched(watch: _Watch) -> Generator[None]:
    kept = dict(_plain_methods())
    for name, method in kept.items():
        setattr(Ledger, name, _timed(method, watch))
    try:
        yield
    finally:
        for name, method in kept.items():
            setattr(Ledger, name, method)


def _plain_methods() -> Iterator[tuple[str, Callable[..., Any]]]:
    for name, value in vars(Ledger).items():
        if inspect.isfunction(value) and not name.startswith("_") and not inspect.iscoroutinefunction(value):
            yield name, value


def _timed(method: Callable[..., T], watch: _Watch) -> Callable[..., T]:
    @functools.wraps(method)
    def timed(*args: Any, **kwargs: Any) -> T:
        with watch:
            return method(*args, **kwargs)

    return timed


def _own_cost() -> tuple[float, float]:
    """Seconds that one use of a watch takes: of what it shows, and in all."""
    watch, times = _Watch(), 10_000
    nothing = _timed(lambda: None, watch)
    began = time.thread_time()
    for _ in range(times):
        nothing()
    return watch.seconds / times, (time.thread_time() - began) / times


@final
class _TimedOffload(Offload):
    def __init__(self) -> None:
        self._inner = ThreadOffload(1)
        self.seconds = 0.0

    async def run(self, work: Callable[[], T], *, cost: float = 0.0) -> T:
        def timed() -> T:
            began = time.thread_time()
            try:
                return work()
            finally:
                self.seconds += time.thread_time() - began

        return await self._inner.run(timed)

    def apart(self) -> Offload:
        return self._inner.apart()


async def _served_cost(batch: list[ta.Datum], tokens: int, steps: int, folder: str | None) -> LedgerCost:
    async with canned_server(tokens=tokens) as server:
        return await _cost(server.url, batch, steps, folder)


async def _cost(url: str, batch: list[ta.Datum], steps: int, folder: str | None) -> LedgerCost:
    files = _TimedOffload()
    async with ta.open_runtime(
        config=_config(url, folder), seed=1, offload=files, disk=FileDisk(files), stall_alarm=None
    ) as runtime:
        client = await (await runtime.create_service_client()).create_lora_training_client(MODEL, rank=8)
        ledger: Ledger = client._model.ledger  # noqa: SLF001
        await _train(client, batch, _WARM_UP)
        await _spilled(ledger, _WARM_UP if folder else 0)
        watch = _Watch()
        trio.lowlevel.add_instrument(watch)
        before, wrote = ledger.spilled(), files.seconds
        with _watched(watch):
            began = time.thread_time()
            await _train(client, batch, steps)
            await _spilled(ledger, _WARM_UP + steps if folder else 0)
            whole = time.thread_time() - began
        trio.lowlevel.remove_instrument(watch)
        written = (ledger.spilled().bytes - before.bytes) / 1e6
        wrote = files.seconds - wrote
        read = files.seconds
        assert ledger.history is not None
        for operation in ledger.history.since(0):
            if operation.away:
                await ledger.recall(operation)
        read = files.seconds - read
        everything = ledger.spilled().bytes / 1e6
    shown, in_all = _own_cost()
    return LedgerCost(
        client=1000 * (whole - in_all * watch.times) / steps,
        ledger=1000 * (watch.seconds - shown * watch.times) / steps,
        write_per_mb=1000 * wrote / written if written else 0.0,
        read_per_mb=1000 * read / everything if everything else 0.0,
        spilled_mb=written,
    )


async def _train(client: ta.TrainingClient, batch: list[ta.Datum], steps: int) -> None:
    for _ in range(steps):
        forward = await client.forward_backward(batch)
        update = await client.optim_step(ta.AdamParams())
        await forward
        await update


async def _spilled(ledger: Ledger, steps: int) -> None:
    """Wait until all of so many steps is on the disk."""
    while True:
        assert ledger.history is not None
        away = sum(operation.away for operation in ledger.history.since(0))
        if away >= steps:
            return
        await trio.sleep(0.001)


def _config(url: str, folder: str | None) -> ta.Config:
    policy = ta.RecoveryPolicy(checkpoints=None)
    if folder is not None:
        policy = ta.RecoveryPolicy(replay_bytes=1, spill_folder=folder, checkpoints=None)
    return ta.Config.load(base_url=url, api_key="tml-benchmark", environ={}, telemetry_enabled=False, recovery=policy)


# ---- calls


async def _calls(batch: list[ta.Datum], tokens: int, steps: int, *, spilled: bool) -> LedgerCalls:
    ledger = whole = 0

    def seen(frame: FrameType, event: str, argument: object) -> None:
        nonlocal ledger, whole
        if event == "call":
            whole += 1
            ledger += frame.f_code.co_filename.startswith(_LEDGER)

    async def counted(work: Callable[[], Awaitable[None]]) -> None:
        before = sys.getprofile()
        sys.setprofile(seen)
        try:
            await work()
        finally:
            sys.setprofile(before)

    disk = SimulatedDisk(random=random.Random(1))
    async with ta.open_runtime(
        config=_config("https://server", "/spilled" if spilled else None),
        transport=CannedTransport(tokens),
        seed=1,
        offload=InlineOffload(),
        disk=disk,
    ) as runtime:
        client = await (await runtime.create_service_client()).create_lora_training_client(MODEL, rank=8)
        await _train(client, batch, _WARM_UP)

        async def work() -> None:
            await _train(client, batch, steps)
            await trio.sleep(1)

        await counted(work)
    return LedgerCalls(ledger=ledger / steps, all=whole / steps)
