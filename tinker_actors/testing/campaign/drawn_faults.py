"""Random fault plans that hit: each kind about as often as any other, at places which the programs do reach."""

from __future__ import annotations

import random
from typing import Any, Final, TypeAlias

from tinker_actors.server_class import ServerClass
from tinker_actors.testing.faults import (
    FAULT_KINDS,
    BlockLoop,
    CancelCaller,
    CorruptModels,
    CrashActor,
    CrashAt,
    Delay,
    DiskFault,
    DropAfter,
    DropBefore,
    Duplicate,
    ExpireSessions,
    Fault,
    FaultPlan,
    FullDisk,
    JumpClock,
    KillRuntime,
    LosePromises,
    LostSync,
    NetworkFault,
    Partition,
    PauseQueue,
    RefuseSeqId,
    Reorder,
    Reset,
    RestartServer,
    ServerFault,
    Status,
    TornWrite,
    Truncate,
)
from tinker_actors.testing.faults.client import AtStep
from tinker_actors.testing.faults.kinds import AtRequest, FaultKind
from tinker_actors.testing.operations import (
    Await,
    CustomLoss,
    ForwardBackward,
    LoadState,
    OptimStep,
    Program,
    Sample,
    SaveState,
    Step,
)

__all__ = ["drawn_late_result", "drawn_plan", "drawn_plan_of_job"]

_POLL: Final = "/retrieve_future"
_ALWAYS: Final = ("/forward_backward", "/optim_step", _POLL, _POLL, _POLL)
_OWN: Final[tuple[tuple[type[Step], str], ...]] = (
    (SaveState, "/save_weights"),
    (LoadState, "/load_weights"),
    (Sample, "/save_weights_for_sampler"),
    (Sample, "/asample"),
)
_MENDED: Final = (401, 402, 404, 408, 410, 429, 500, 502, 503, 504)
_REFUSED: Final = (400, 403, 409, 413, 422)
_OF_POLLS: Final = (400, 401, 402, 403, 404, 408, 409, 410, 422, 429, 500)  # the rows of WIRE 3.3
_WITH_POLLS_REFUSED: Final = 0.7  # of the plans, each status as often as any other
_ONCE: Final = (402, 404, 410)
_POINTS: Final = ("training.before_send", "training.sent", "training.polling", "training.decoded")
_ACTORS: Final = ("training-0", "training-0", "training-0", "manager", "heartbeat", "queue-observer", "telemetry")
_BEFORE: Final = 100  # steps of the scheduler before a client has its model
_EACH: Final = 30  # steps of each operation, at least
_WITH_SOLE_ERRORS: Final = 0.06  # of the plans hold a refusal, which ends with an error
_AT_DISKS: Final = 0.7  # of the jobs, for each of the kinds
_BESIDES: Final = (DropAfter, Reset, Delay, Truncate, ExpireSessions, LosePromises, CrashActor, JumpClock)
_DAY: Final = 86_400.0
_LOSING: Final = (
    CrashAt,
    CrashActor,
    LosePromises,
    ExpireSessions,
    CorruptModels,
    RestartServer,
    RestartServer,
    RestartServer,
)

_Sessions: TypeAlias = tuple[tuple[Program, ...], ...]


def drawn_plan(
    rng: random.Random, sessions: _Sessions, server_class: ServerClass, number: int, *, asks: bool = False
) -> FaultPlan:
    """One to six faults; most plans hold one that a new incarnation, session or model must make good. What a poll is
    answered goes round with ``number``.

    A server of class "none" gets no training request twice from anybody but its client: nobody could notice that.
    """
    programs = [program for session in sessions for program in session]
    draw = _Draw(rng, server_class, len(programs), [step for program in programs for step in program.steps])
    faults: list[Fault] = []
    if rng.random() < 0.85:
        faults.append(draw.fault(rng.choice(_LOSING)))
    kinds = [kind for kind in FAULT_KINDS if kind not in (*_LOSING, KillRuntime) and not issubclass(kind, DiskFault)]
    if server_class is not ServerClass.ORDERED:
        kinds.remove(RefuseSeqId)  # it would prove nothing, and stop the lane
    else:
        kinds += [RefuseSeqId] * 5
    faults.extend([draw.fault(rng.choice(kinds)) for _ in range(rng.randint(0 if faults else 1, 3))])
    if rng.random() < _WITH_POLLS_REFUSED:
        faults.append(draw.refused_poll(_OF_POLLS[number % len(_OF_POLLS)]))
    if rng.random() < _WITH_SOLE_ERRORS:
        faults.append(draw.refusal())
    if asks or not any(isinstance(fault, AtRequest) for fault in faults):  # who asks has something to be asked about
        faults.append(draw.lost_answer())
    rng.shuffle(faults)
    return FaultPlan(tuple(faults))


def drawn_late_result(rng: random.Random) -> FaultPlan:
    """An early result comes late, and what was saved after its operation is there when the model is lost before."""
    late = Delay(path=_POLL, nth=rng.randint(2, 4), times=1, seconds=90.0, reply=True)
    loss = rng.choice((CorruptModels, ExpireSessions))
    return FaultPlan((late, loss(path="/save_weights", nth=1, later=rng.choice((0.5, 5.0, 20.0)))))


def drawn_plan_of_job(rng: random.Random, steps: int) -> FaultPlan:
    """For a job of so many steps: its process dies a few times, its disk may be full, and a little besides."""
    draw = _Draw(rng, ServerClass.DEDUP, 1, [ForwardBackward(seeds=(1,)), OptimStep()] * steps)
    faults = [draw.fault(KillRuntime) for _ in range(rng.randint(1, 2))]
    faults.extend([draw.fault(kind) for kind in (FullDisk, TornWrite, LostSync) if rng.random() < _AT_DISKS])
    faults.extend([draw.fault(rng.choice(_BESIDES)) for _ in range(rng.randint(0, 2))])
    return FaultPlan(tuple(faults))


class _Draw:
    def __init__(self, rng: random.Random, server_class: ServerClass, models: int, steps: list[Step]) -> None:
        self._rng = rng
        kinds = {type(step) for step in steps}
        self._paths = [*_ALWAYS, *(path for kind, path in _OWN if kind in kinds)]
        batches = sum(isinstance(step, ForwardBackward | CustomLoss) for step in steps)
        self._often = max(1, min(batches, 4))
        self._class = server_class
        self._models = models
        self._long = sum(not isinstance(step, Await) for step in steps)

    def fault(self, kind: type[FaultKind]) -> Fault:
        pick = self._rng.choice
        place: dict[str, Any] = {}
        if issubclass(kind, AtRequest):
            path = pick([*self._paths, ""])
            if kind is Duplicate and self._class is ServerClass.NONE:
                path = _POLL
            if kind is RefuseSeqId:
                path = pick(("/forward_backward", "/optim_step"))
            place = {"path": path, "nth": self._nth(path)}
            if issubclass(kind, NetworkFault):
                place["times"] = pick((1, 1, 1, 2, 3))
            if issubclass(kind, ServerFault):
                place["later"] = pick((0.0, 0.0, 0.002, 0.02, 0.5))
        elif issubclass(kind, AtStep):
            first = 1 if kind is CrashActor and self._rng.random() < 0.2 else _BEFORE * self._models
            place = {"step": self._rng.randint(first, _BEFORE * self._models + _EACH * self._long)}
        return self._made(kind, place)

    def _made(self, kind: type[FaultKind], place: dict[str, Any]) -> Fault:
        rng, pick = self._rng, self._rng.choice
        if kind in (Reset, DropAfter, Duplicate, LosePromises, ExpireSessions, CorruptModels, CancelCaller):
            return kind(**place)
        if kind is DropBefore:
            return DropBefore(**place, known=rng.random() < 0.5)
        if kind is Delay:
            return Delay(**place, seconds=pick((0.5, 5.0, 50.0, 90.0)), reply=rng.random() < 0.5)
        if kind is Reorder:
            return Reorder(**place, behind=rng.randint(1, 3), seconds=pick((0.05, 5.0, 90.0)))
        if kind is Partition:
            return Partition(**place, seconds=pick((0.5, 20.0, 200.0)))
        if kind is Status:
            return self._status(place)
        if kind is RefuseSeqId:
            return RefuseSeqId(**place, expected=rng.randint(1, 6))
        if kind is Truncate:
            return Truncate(**place, keep=rng.randint(0, 20))
        if kind is PauseQueue:
            return PauseQueue(**place, seconds=pick((1.0, 40.0, 300.0)))
        if kind is RestartServer:
            keeps = pick(("memory", "disk", "nothing"))
            return RestartServer(**place, keeps=keeps, down=pick((0.01, 2.0, 60.0)))
        if kind is JumpClock:
            return JumpClock(**place, seconds=pick((-_DAY, -1.0, 1.0, _DAY, 1000 * _DAY)), client=rng.random() < 0.5)
        if kind is CrashAt:
            return CrashAt(point=pick(_POINTS), nth=rng.randint(1, self._often))
        if kind is CrashActor:
            return CrashActor(**place, actor=pick(_ACTORS))
        if kind is KillRuntime:
            return KillRuntime(**place)
        if kind is FullDisk:
            return FullDisk(nth=rng.randint(1, 10), times=rng.randint(1, 3))
        if kind is TornWrite:
            return TornWrite(nth=rng.randint(1, 6))
        if kind is LostSync:
            return LostSync(nth=rng.randint(1, 6))
        if kind is BlockLoop:
            return BlockLoop(**place, seconds=pick((5.0, 60.0, 700.0)))
        raise AssertionError(f"no rule for {kind.__name__}")

    def _status(self, place: dict[str, Any]) -> Status:
        pick = self._rng.choice
        status = pick(_MENDED)
        once = status in (401, 402, 404, 410)
        if once:  # where a training client asks: elsewhere it is a caller who has to ask again
            path = pick(_ALWAYS)
            place = {"path": path, "nth": self._nth(path), "times": pick((2, 3)) if status == 401 else 1}
        return Status(**place, status=status, retry_after=pick((None, None, 0.5, 3.0)), after=pick((True, False)))

    def refused_poll(self, status: int) -> Status:
        """Behind the first polls, those of the models' creations, which whoever has asked for them asks for again."""
        pick = self._rng.choice
        if status in _ONCE:
            times = 1
        elif status == 401:
            times = pick((1, 2))
        else:
            times = pick((1, 3, 5))
        nth = self._models + self._rng.randint(1, max(1, self._long // 2))
        return Status(path=_POLL, nth=nth, times=times, status=status, after=pick((True, False)))

    def lost_answer(self) -> Fault:
        path = self._rng.choice(("/forward_backward", "/optim_step"))
        return self._rng.choice((DropAfter, Reset))(path=path, nth=self._nth(path))

    def refusal(self) -> Status:
        path = self._rng.choice([path for path in self._paths if path != _POLL])
        return Status(path=path, nth=self._nth(path), status=self._rng.choice(_REFUSED))

    def _nth(self, path: str) -> int:
        most = {"": 4 + 2 * self._long, _POLL: self._long, "/forward_backward": self._often}.get(path, 1)
        return self._rng.randint(1, most)
