"""Run a case in simulation, and report what its programs, its servers and its runtime have seen."""

from __future__ import annotations

from collections import Counter
from typing import Final, final

import msgspec
import trio

from supervision import ActorCrashed, ActorRestarted
from tinker_actors.clients import ServiceClient, TrainingClient
from tinker_actors.clients.training.events import ModelRebuilt
from tinker_actors.config import Config, RecoveryPolicy
from tinker_actors.errors import APIStatusError, TinkerError
from tinker_actors.ledger import AcceptedOperation
from tinker_actors.local import ServerSettings
from tinker_actors.local.applied import AppliedOperation
from tinker_actors.sessions import SessionRenewed
from tinker_actors.testing.campaign.caller import Caller
from tinker_actors.testing.campaign.case import Case
from tinker_actors.testing.campaign.job_program import JobResult, run_job
from tinker_actors.testing.campaign.watch import Watch
from tinker_actors.testing.faults import DeathAtDisk, Fired, KillRuntime
from tinker_actors.testing.operations import BASE_MODEL, Program, start_client
from tinker_actors.testing.simulation import World, simulate

__all__ = ["ClientReport", "Report", "refused_status", "run_case"]

# patient enough that every plan of `drawn_plan` can be mended
_CONFIGS: Final = {
    asks: Config.load(
        base_url="https://server",
        api_key="tml-test",
        environ={},
        outage_bound=3600.0,
        start_bound=3600.0,
        recovery=RecoveryPolicy(max_attempts=1000, unknown_outcome="ask" if asks else "restore"),
    )
    for asks in (False, True)
}
_LIMIT: Final = 50_000.0
_AFTERWARDS: Final = 62.0  # seconds: longer than whatever is to happen later
_REFUSALS: Final = (400, 401, 403, 409, 413, 422)
_PAUSE: Final = 1.0  # seconds before a client is asked for again


class ClientReport(msgspec.Struct, frozen=True, kw_only=True):
    """What one program gave: results by place, in part of operations that failed, and what the server did for it.

    ``untold`` are operations whose caller was cancelled once they were accepted, ``skipped`` were never asked for,
    ``saves`` says of each save how often it had taken effect when its result came.
    """

    name: str
    program: Program
    losses: dict[int, float]
    samples: dict[int, tuple[tuple[int, ...], tuple[float, ...]]]
    failed: dict[int, str]
    untold: frozenset[int]
    skipped: frozenset[int]
    numbers: dict[int, int]
    saves: dict[str, int]
    accepted: tuple[AcceptedOperation, ...]
    applied: tuple[AppliedOperation, ...]
    digest: str
    stopped: str | None
    """Why its lane has stopped."""
    verdicts: tuple[str, ...]
    """What its user had to decide."""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What a run has shown. ``seconds`` is virtual time; ``waits`` and ``left`` tell of broken promises."""

    clients: tuple[ClientReport, ...]
    fired: tuple[Fired, ...]
    log: dict[str, int]
    crashes: tuple[tuple[str, str], ...]
    """Paths and what was raised there."""
    refused: tuple[tuple[str, int], ...]
    """Paths at which nothing started, since the server refused it, and the status: who asked for it was told so."""
    restarted: tuple[str, ...]
    rebuilt: int
    renewed: int
    waits: tuple[str, ...]
    left: tuple[str, ...]
    seconds: float
    job: JobResult | None = None

    @property
    def recovered(self) -> bool:
        """Whether something was made good: by a new incarnation, session, model or process."""
        killed = any(isinstance(fired.fault, KillRuntime | DeathAtDisk) for fired in self.fired)
        return bool(self.restarted or self.rebuilt or self.renewed or killed)


def run_case(case: Case) -> Report:
    """Run ``case`` to its end. What is raised is a broken promise, too: nothing hangs, nothing is lost in silence."""
    outcome = simulate(
        _Scenario(case).run,
        seed=case.seed,
        plan=case.plan,
        settings=ServerSettings(
            base_model=BASE_MODEL,
            fwdbwd_max_chunk_len=case.chunk_len,
            parallel_fwdbwd_chunks=case.parallel_chunks,
            load_first_only=case.load_first_only,
            server_class=case.server_class,
            tells_class=case.tells_class,
        ),
        config=_CONFIGS[case.asks],
        limit=_LIMIT,
    )
    callers, waits, log, job = outcome.value
    crashes = [event for event in outcome.events if isinstance(event, ActorCrashed)]
    return Report(
        clients=tuple(
            ClientReport(
                name=caller.name,
                program=caller.program,
                losses=caller.losses,
                samples=caller.samples,
                failed=caller.failed,
                untold=frozenset(caller.untold),
                skipped=frozenset(caller.skipped),
                numbers=caller.numbers,
                saves=caller.saves,
                accepted=model.accepted,
                applied=model.applied,
                digest=model.digest,
                stopped=caller.stopped,
                verdicts=tuple(caller.verdicts),
            )
            for caller, model in zip(callers, outcome.models, strict=True)
        ),
        fired=outcome.fired,
        log=log,
        crashes=tuple((event.path, event.crash.text) for event in crashes if refused_status(event) is None),
        refused=tuple((event.path, status) for event in crashes if (status := refused_status(event)) is not None),
        restarted=tuple(event.path for event in outcome.events if isinstance(event, ActorRestarted)),
        rebuilt=sum(isinstance(event, ModelRebuilt) for event in outcome.events),
        renewed=sum(isinstance(event, SessionRenewed) for event in outcome.events),
        waits=waits,
        left=outcome.left,
        seconds=outcome.seconds,
        job=job,
    )


def refused_status(event: ActorCrashed) -> int | None:
    """The status that its creation was answered, of what did not start; None for any crash of what had started."""
    error = event.crash.error
    if event.starting and isinstance(error, APIStatusError) and error.status in _REFUSALS:
        return error.status
    return None


@final
class _Scenario:
    def __init__(self, case: Case) -> None:
        self._case = case
        self._callers: list[Caller] = []

    async def run(self, world: World) -> tuple[list[Caller], tuple[str, ...], dict[str, int], JobResult | None]:
        if self._case.job is not None:
            return [], (), {}, await run_job(world, self._case.job)
        watch = Watch(world)
        async with trio.open_nursery() as outer:
            outer.start_soon(watch.run)
            services = [await self._service(world) for _ in self._case.sessions]
            for session, (service, programs) in enumerate(zip(services, self._case.sessions, strict=True)):
                for number, program in enumerate(programs):
                    client = world.watch(await self._client(service))
                    watch.follow(client)
                    self._callers.append(Caller(f"{session}/{number}", program, client, world))
            async with trio.open_nursery() as nursery:
                for caller in self._callers:
                    nursery.start_soon(caller.run)
            await trio.sleep(_AFTERWARDS)
            for caller in self._callers:
                await caller.look()  # a model that is lost without being used is rebuilt now
            await world.settle()
            outer.cancel_scope.cancel(reason="the programs have ended")
        for service in services:
            watch.check_gates(service)
        log = Counter(operation.digest for operation in world.server.log())
        return (
            self._callers,
            (*watch.problems, *(f"back-off: {hasty}" for hasty in world.transport.hasty)),
            dict(log),
            None,
        )

    async def _service(self, world: World) -> ServiceClient:
        while True:
            try:
                return await world.runtime.create_service_client()
            except TinkerError:
                await trio.sleep(_PAUSE)

    async def _client(self, service: ServiceClient) -> TrainingClient:
        while True:
            try:
                return await start_client(service)
            except TinkerError:
                await trio.sleep(_PAUSE)
