"""What do the means of recovery cost, and how soon does training go on?

*Ledger*: see ``ledger_cost``. *Crash*: an actor is crashed and called at once; a training client is crashed with a
thousand operations in its ledger, and the time of its restart's back-off is taken off. *Server*: a process that is
killed and started again at the same port, with its directory or without memory; the time is that from when it listens
until the next step has its result, beside a step before. *Replay*: a server in this program loses the model; what was
trained is applied again (CPU time of both). *Simulation*: a training loop with heartbeats that loses its model each
hour. What else the machine does shows in times of the clock.
"""

from __future__ import annotations

import logging
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from itertools import cycle, islice
from typing import Any, Final, final
from urllib.parse import urlsplit

import msgspec
import trio

import tinker_actors as ta
from benchmarks import actors
from benchmarks.canned import MODEL
from benchmarks.client_counters import CannedTransport
from benchmarks.demo_work import RANK, training_data
from benchmarks.ledger_cost import ledger_calls, ledger_cost
from benchmarks.rows import Goal, Row
from benchmarks.server_process import BASE_MODEL, KEY, running_server
from supervision import ActorCrashed, ActorRestarted, ActorRestarting, Event, SupervisorRef
from supervision.context import Context
from tinker_actors.clients.training.events import ModelRebuilt
from tinker_actors.ports import Request, Response, Transport
from tinker_actors.testing.local_server import local_server
from tinker_actors.testing.operations import BASE_MODEL as TINY
from tinker_actors.testing.operations import datum, start_client
from tinker_actors.testing.simulation import World, simulate

__all__ = ["run"]

_CLIENT: Final = "the client's own cost"
_FIRST: Final = "the first run"
_HOUR: Final = 3600.0
_EACH: Final = 30.0  # simulated seconds from step to step


def run(
    *,
    datums: int = 128,
    tokens: int = 4096,
    steps: int = 10,
    crashes: int = 50,
    unfinished: int = 1000,
    restarts: int = 3,
    replays: int = 30,
    hours: float = 3.0,
) -> list[Row]:
    """The rows; the arguments say how much is done for each, and tests ask for little."""
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)  # what goes wrong here does so on purpose
    try:
        return [
            *_ledger_rows(datums, tokens, steps),
            *trio.run(_crash_rows, crashes, unfinished),
            *_restart_rows(restarts),
            trio.run(_replay_row, replays),
            _simulation_row(hours),
        ]
    finally:
        logging.disable(disabled)


# ---- the ledger


def _ledger_rows(datums: int, tokens: int, steps: int) -> list[Row]:
    kept = ledger_cost(datums, tokens, steps=steps, spilled=False)
    spilled = ledger_cost(datums, tokens, steps=steps, spilled=True)
    calls = ledger_calls(4, 16, steps=40, spilled=False)
    batch = f"{datums} datums of {tokens} tokens"
    return [
        Row(
            figure="ledger_share_of_client",
            value=kept.share,
            unit="%",
            goal=Goal(must=5.0),
            note=f"{kept.ledger:.3g} of {kept.client:.3g} ms of CPU for a step of {batch}",
        ),
        Row(
            figure="ledger_share_of_client_calls",
            value=calls.share,
            unit="%",
            note=f"{calls.ledger:.4g} of {calls.all:.5g} calls for a step of 4 datums of 16 tokens",
        ),
        Row(
            figure="spill_loop_time_per_step",
            value=spilled.ledger,
            unit="ms",
            versus=_CLIENT,
            ratio=spilled.ledger / spilled.client,
            goal=Goal(must=1.0),
            note=f"the ledger's included; {batch}, {spilled.spilled_mb / steps:.3g} MB spilled in each step",
        ),
        Row(
            figure="spill_write_per_mb",
            value=spilled.write_per_mb,
            unit="ms",
            note="of CPU, away from the loop; without the disk's own time",
        ),
        Row(
            figure="spill_read_per_mb",
            value=spilled.read_per_mb,
            unit="ms",
            note="of CPU, away from the loop; the digest's check is most of it",
        ),
    ]


# ---- crashes


async def _crash_rows(crashes: int, unfinished: int) -> list[Row]:
    plain = [1000 * seconds for seconds in await _plain_crashes(crashes)]
    client = [1000 * seconds for seconds in await _client_crashes(max(1, crashes // 10), unfinished)]
    return [
        Row(
            figure="actor_crash_to_next_message",
            value=statistics.median(plain),
            unit="ms",
            goal=Goal(must=50.0),
            note=f"median of {crashes}, without back-off, {min(plain):.3g} to {max(plain):.3g}",
        ),
        Row(
            figure="training_client_crash_to_next_send",
            value=statistics.median(client),
            unit="ms",
            goal=Goal(must=50.0),
            note=f"median of {len(client)}, back-off taken off, {unfinished} operations unfinished, "
            f"{min(client):.3g} to {max(client):.3g}",
        ),
    ]


async def _plain_crashes(crashes: int) -> list[float]:
    found: list[float] = []
    async with actors.open_measured() as system:
        ref = await system.start_child(actors.plain("actor"))
        crash_and_call = actors.crashes(ref)
        for _ in range(crashes):
            began = time.perf_counter()
            await crash_and_call(1)
            found.append(time.perf_counter() - began)
    return found


@final
class _Gate(Transport):
    """Lets no training operation through while it is ``shut``, and tells when it is asked for one."""

    def __init__(self, inner: Transport) -> None:
        self._inner = inner
        self.shut = False
        self.asked = trio.Event()

    async def send(self, request: Request) -> Response:
        if self.shut and request.purpose == "train" and not urlsplit(request.url).path.endswith("get_info"):
            self.asked.set()
            await trio.sleep_forever()
        return await self._inner.send(request)

    async def aclose(self) -> None:
        await self._inner.aclose()


async def _client_crashes(crashes: int, unfinished: int) -> list[float]:
    gate, events = _Gate(CannedTransport()), list[tuple[float, Event]]()
    config = ta.Config.load(
        base_url="https://server",
        api_key=KEY,
        environ={},
        telemetry_enabled=False,
        max_pending=unfinished,
        server_class="dedup",
    )
    found: list[float] = []
    async with ta.open_runtime(config=config, transport=gate, seed=1, stall_alarm=None) as runtime:
        client = await (await runtime.create_service_client()).create_lora_training_client(MODEL, rank=8)
        await (await client.optim_step(ta.AdamParams()))
        gate.shut = True
        for _ in range(unfinished):
            client.optim_step_async(ta.AdamParams())
        await gate.asked.wait()
        with runtime.system.events.subscribe(lambda event: events.append((time.perf_counter(), event))):
            for _ in range(crashes):
                gate.asked = trio.Event()
                events.clear()
                _crash(runtime, "sessions/session-0/clients/training-0")
                await gate.asked.wait()
                sent = time.perf_counter()
                began = next(at for at, event in events if isinstance(event, ActorCrashed))
                delay = sum(event.delay for _, event in events if isinstance(event, ActorRestarting))
                assert any(isinstance(event, ActorRestarted) for _, event in events)
                found.append(sent - began - delay)
                await trio.sleep(6.5)  # no more than ten a minute
        return found


def _crash(runtime: ta.Runtime, path: str) -> None:
    place = runtime.system.root
    *supervisors, name = path.split("/")
    for supervisor in supervisors:
        below = place.child(supervisor)
        assert isinstance(below, SupervisorRef)
        place = below

    async def fail() -> None:
        raise RuntimeError("the benchmark crashes it")

    life = place.child(name).place.life
    assert life is not None
    Context(life).start_task(fail, name="crash")


# ---- servers


def _restart_rows(restarts: int) -> list[Row]:
    rows: list[Row] = []
    for figure, directory, what in (
        ("server_restart_to_training", True, "with its directory: goes on from a checkpoint"),
        ("server_restart_without_memory_to_training", False, "without memory: all is applied again"),
    ):
        found = [_restart(directory=directory) for _ in range(restarts)]
        step = statistics.median(step for _, step in found)
        value = statistics.median(after for after, _ in found)
        rows.append(
            Row(
                figure=figure,
                value=value,
                unit="s",
                versus="a step before",
                ratio=value / step,
                note=f"{what}; median of {restarts}, {min(found)[0]:.3g} to {max(found)[0]:.3g}; step {step:.3g}",
            )
        )
    return rows


def _restart(*, directory: bool) -> tuple[float, float]:
    """Seconds from when the server listens again until the next step is done, and of a step before."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as first:
        options = ("--directory", folder) if directory else ()
        server = first.enter_context(running_server(*options))
        port = str(urlsplit(server.url).port)

        async def main() -> tuple[float, float]:
            async with ta.open_runtime(base_url=server.url, api_key=KEY) as runtime:
                service = await runtime.create_service_client()
                client = await service.create_lora_training_client(BASE_MODEL, rank=RANK, train_unembed=False)
                batches = cycle(training_data(2))
                await _step(client, next(batches))
                began = time.perf_counter()
                await _step(client, next(batches))
                step = time.perf_counter() - began
                if directory:
                    await (await client.save_state("before"))
                server.kill()
                first.close()
                async with trio.open_nursery() as nursery:
                    done: list[float] = []

                    async def next_step() -> None:
                        await _step(client, next(batches))
                        done.append(time.perf_counter())

                    nursery.start_soon(next_step)
                    again = await trio.to_thread.run_sync(
                        second.enter_context, running_server(*options, "--port", port)
                    )
                    listening = time.perf_counter()
                    assert again.url == server.url
                return done[0] - listening, step

        with ExitStack() as second:
            return trio.run(main)


async def _step(client: ta.TrainingClient, batch: list[ta.Datum]) -> None:
    forward = await client.forward_backward(batch)
    update = await client.optim_step(ta.AdamParams(learning_rate=1e-4))
    await forward
    await update


async def _replay_row(steps: int) -> Row:
    batches = list(islice(cycle(training_data(4)), steps))
    async with local_server(seed=1) as server, ta.open_runtime(server=server, seed=1) as runtime:
        service = await runtime.create_service_client()
        client = await service.create_lora_training_client(BASE_MODEL, rank=RANK, train_unembed=False)
        await _step(client, batches[0])
        rebuilt = trio.Event()

        def hear(event: Event) -> None:
            if isinstance(event, ModelRebuilt):
                rebuilt.set()

        with runtime.system.events.subscribe(hear):
            first = await _timed(lambda: _pipelined(client, batches))
            server.service.models[client.model_id].close("it was lost", abandon=True)

            async def replay() -> None:
                await (await client.forward(batches[0][:1]))

            again = await _timed(replay)
            assert rebuilt.is_set()
    return Row(
        figure="replay_speed",
        value=first / again,
        unit="x",
        versus=_FIRST,
        ratio=first / again,
        note=f"{steps} steps of the demo, two ahead, {first:.3g} s of CPU with the server's; the model's loss "
        f"noticed, another made, the same applied again, {again:.3g} s",
    )


async def _pipelined(client: ta.TrainingClient, batches: list[list[ta.Datum]]) -> None:
    ahead: list[list[ta.Future[Any]]] = []
    for batch in batches:
        ahead.append([await client.forward_backward(batch), await client.optim_step(ta.AdamParams())])
        if len(ahead) > 2:
            for future in ahead.pop(0):
                await future
    for step in ahead:
        for future in step:
            await future


async def _timed(work: Callable[[], Awaitable[None]]) -> float:
    began = time.process_time()
    await work()
    return time.process_time() - began


# ---- simulation


def _simulation_row(hours: float) -> Row:
    async def story(world: World) -> int:
        service = await world.runtime.create_service_client()
        client = world.watch(await start_client(service))
        lost = 0
        while trio.current_time() < hours * _HOUR:
            forward = await client.forward_backward([datum(1), datum(2)])
            await (await client.optim_step(ta.AdamParams()))
            await forward
            if trio.current_time() > (lost + 1) * _HOUR:
                lost += 1
                world.service.models[client.model_id].close("it was lost", abandon=True)
            await trio.sleep(_EACH)
        return lost

    config = ta.Config.load(
        base_url="https://server",
        api_key="tml-test",
        environ={},
        recovery=ta.RecoveryPolicy(checkpoints=ta.CheckpointPolicy(every_steps=20)),
    )
    began = time.process_time()
    outcome = simulate(story, seed=1, config=msgspec.structs.replace(config, outage_bound=600.0))
    minutes = (time.process_time() - began) / 60
    return Row(
        figure="simulated_hours_per_minute",
        value=outcome.seconds / _HOUR / minutes,
        unit="h",
        note=f"of CPU; {outcome.seconds / _HOUR:.2g} h on {TINY}, a step each {_EACH:g} s, {outcome.value} losses",
    )
