"""Jobs in simulation, over several lives of their process: one server, one disk, a runtime for each life."""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar, final

import trio

from supervision import Event
from supervision.testing import run_seeded
from tests.clients.scenario import batch
from tests.recovery.jobs.data import STEP, Deck
from tinker_actors.config import CheckpointPolicy, Config
from tinker_actors.local import ServerSettings
from tinker_actors.ports import InlineOffload, Request, Response
from tinker_actors.recovery.jobs import Job
from tinker_actors.runtime import Runtime, open_runtime
from tinker_actors.testing.disk import SimulatedDisk
from tinker_actors.testing.operations import BASE_MODEL
from tinker_actors.testing.simulated_server import SimulatedServer, open_simulated_server

__all__ = ["FOLDER", "Died", "Lives", "in_lives", "train"]

T = TypeVar("T")
FOLDER = Path("/jobs")


class Died(Exception):
    """The process is dead: nothing of it reaches anybody."""


@final
class Wire:
    """The connections of one process, which its death cuts."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.dead = False

    async def send(self, request: Request, **more: Any) -> Response:
        if self.dead:
            await trio.sleep_forever()
        return await self._inner.send(request, **more)

    async def aclose(self) -> None:
        await self._inner.aclose()


@final
class Lives:
    """One server and one disk, and whoever runs jobs with them."""

    def __init__(self, server: SimulatedServer, seed: int) -> None:
        self.server = server
        self.disk = SimulatedDisk(random=random.Random(f"disk {seed}"))
        self.seed = seed
        self.count = 0
        self.runtime: Runtime | None = None
        self.events: list[Event] = []
        self.wire: Wire | None = None
        self._life = trio.CancelScope()

    @asynccontextmanager
    async def open(self, **config: Any) -> AsyncGenerator[Runtime]:
        """A process."""
        self.count += 1
        self.wire = Wire(self.server.network.transport())
        async with open_runtime(
            config=Config.load(base_url="https://server", api_key="tml-test", environ={}, **config),
            transport=self.wire,
            seed=self.seed * 1000 + self.count,
            offload=InlineOffload(),
            disk=self.disk,
        ) as runtime:
            self.runtime = runtime
            with runtime.system.events.subscribe(self.events.append):
                yield runtime

    async def live(self, work: Callable[[Runtime], Awaitable[T]], **config: Any) -> T:
        """A process that does ``work``. Raises Died where ``die`` ends it before."""
        result: list[T] = []
        try:
            with trio.CancelScope() as self._life:
                async with self.open(**config) as runtime:
                    result.append(await work(runtime))
                return result[0]
        except Exception:
            if self.wire is None or not self.wire.dead:
                raise
        raise Died

    def die(self) -> None:
        """SIGKILL, now: what it still does reaches neither server nor disk."""
        assert self.wire is not None
        self.wire.dead = True
        self.disk = self.disk.die()
        self._life.cancel(reason="SIGKILL")

    async def rows(self, name: str = "job") -> list[bytes]:
        """The lines of metrics.jsonl."""
        return (await self.disk.read(FOLDER / name / "metrics.jsonl")).splitlines()

    async def digest(self, job: Job) -> str:
        """Of the weights."""
        return await self.server.digest(job.client.model_id) or ""


def in_lives(story: Callable[[Lives], Awaitable[T]], seed: int = 1, **options: Any) -> T:
    """What ``story`` gives, under a virtual clock."""

    async def run() -> T:
        async with open_simulated_server(
            ServerSettings(base_model=BASE_MODEL, owners={"somebody": ("tml-test",)}),
            random=random.Random(seed),
            network=random.Random(seed + 1),
            restarts=random.Random(seed + 2),
        ) as server:
            return await story(Lives(server, seed))

    return run_seeded(run, seed=seed, **options)


async def train(
    lives: Lives,
    runtime: Runtime,
    *,
    steps: int = 8,
    ahead: int = 1,
    policy: CheckpointPolicy | None = None,
    name: str = "job",
    until: Callable[[Job, int], Awaitable[object]] | None = None,
    **options: Any,
) -> tuple[str, bool]:
    """The program: a job of ``steps`` steps, ``ahead`` of their results; the digest, and whether it is done."""
    block = runtime.job(
        name,
        **{
            "base_model": BASE_MODEL,
            "rank": 2,
            "seed": 7,
            "steps": steps,
            "checkpoints": policy or CheckpointPolicy(every_steps=2),
            "folder": FOLDER,
            "catch_signals": False,
        }
        | options,
    )
    async with block as job:
        deck = job.track("deck", Deck(5))
        waiting: list[tuple[int, Any]] = []

        async def log(left: int) -> None:
            while len(waiting) > left:
                step, future = waiting.pop(0)
                loss = (await future).metrics["loss:sum"]
                job.log({"loss": loss, "noise": float(job_noise[step])}, step=step)

        job_noise: dict[int, float] = {}
        for step in job.steps():
            data = batch(*deck.draw(job.rng, 3))
            job_noise[step] = float(job.generator.random())
            job.position += 1
            waiting.append((step, await job.client.forward_backward(data)))
            await job.client.optim_step(STEP)
            if until is not None:
                await until(job, step)
            await log(ahead)
        await log(0)
        await job.client.checkpoints.drained()
        digest = await lives.digest(job)
    return digest, job.done
