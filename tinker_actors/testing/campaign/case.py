"""A Case: programs of several clients, the faults that they meet, and the seed of everything else."""

from __future__ import annotations

import random
from collections.abc import Callable

import msgspec

from tinker_actors.server_class import ServerClass
from tinker_actors.testing.campaign.drawn_faults import drawn_late_result, drawn_plan, drawn_plan_of_job
from tinker_actors.testing.campaign.job_program import JobProgram
from tinker_actors.testing.faults import Ending, FaultPlan
from tinker_actors.testing.operations import (
    Await,
    CustomLoss,
    ForwardBackward,
    LoadState,
    OptimStep,
    Program,
    Sample,
    SaveState,
    SaveWeightsForSampler,
    Step,
)

__all__ = ["Case", "drawn_case"]

_SEEDS = 1000
_SESSIONS: tuple[tuple[int, ...], ...] = ((1,), (1,), (1,), (2,), (1, 1))  # how many models in each session
_JOBS = 8  # each so many cases one is a job
_LATE = 25  # as each so many cases one has a save that is done before the results of what it holds
_CLASSES = {ServerClass.DEDUP: 6, ServerClass.ORDERED: 2, ServerClass.NONE: 2}
_ASKING = 0.6  # of the cases whose server leaves outcomes unknown
_RATES = (1e-3, 1e-2, 0.1)


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """One simulated run. ``repr`` is the Python that makes an equal one. A ``job`` takes the place of ``sessions``.

    ``sessions`` holds, for each session, the program of each of its clients; all run at the same time. ``chunk_len``,
    ``parallel_chunks`` and what follows are settings of the server, which count for all programs. With ``asks`` the
    client's policy leaves it to its user what an unknown outcome means.
    """

    seed: int
    sessions: tuple[tuple[Program, ...], ...]
    plan: FaultPlan
    chunk_len: int = 2
    parallel_chunks: bool = True
    load_first_only: bool = False
    server_class: ServerClass = ServerClass.DEDUP
    tells_class: bool = True
    asks: bool = False
    job: JobProgram | None = None

    def __repr__(self) -> str:
        fields = {name: repr(getattr(self, name)) for name in self.__struct_fields__}
        fields["server_class"] = f"ServerClass.{self.server_class.name}"
        return f"Case({', '.join(f'{name}={value}' for name, value in fields.items())})"

    @property
    def ending(self) -> Ending:
        """How its run must end."""
        return self.plan.ending_at(self.server_class, asks=self.asks)

    @property
    def steps(self) -> int:
        """Of all programs."""
        return sum(len(program.steps) for session in self.sessions for program in session)


def drawn_case(seed: int) -> Case:
    """The case of ``seed``: the same wherever it is drawn."""
    rng = random.Random(f"case {seed}")
    if seed % _JOBS == _JOBS - 1:
        job = JobProgram(
            steps=rng.randint(3, 8), every=rng.randint(1, 3), ahead=rng.randint(0, 2), samples=rng.random() < 0.5
        )
        return Case(seed=seed, sessions=(), plan=drawn_plan_of_job(rng, job.steps), job=job)
    if seed % _LATE == _LATE - 1:
        steps = (_forward_backward(rng), OptimStep(learning_rate=rng.choice(_RATES)), SaveState())
        after = tuple([_step(rng, list(steps)) for _ in range(rng.randint(1, 4))])
        return Case(seed=seed, sessions=((Program(steps=(*steps, *after)),),), plan=drawn_late_result(rng))
    (server_class,) = rng.choices(tuple(_CLASSES), tuple(_CLASSES.values()))
    models = rng.choice(_SESSIONS)
    most = 10 if sum(models) == 1 else 7
    sessions = tuple(tuple([_program(rng, most) for _ in range(count)]) for count in models)
    asks = server_class is ServerClass.NONE and rng.random() < _ASKING
    return Case(
        seed=seed,
        asks=asks,
        sessions=sessions,
        plan=drawn_plan(rng, sessions, server_class, seed, asks=asks),
        chunk_len=rng.randint(1, 3),
        parallel_chunks=rng.random() < 0.5,
        load_first_only=rng.random() < 0.15,
        server_class=server_class,
        tells_class=rng.random() < 0.7,
    )


def _program(rng: random.Random, most: int) -> Program:
    steps: list[Step] = [_forward_backward(rng), OptimStep(learning_rate=rng.choice(_RATES))]
    for place in range(2, rng.randint(5, most)):
        steps.append(_step(rng, steps[:place]))
    return Program(steps=tuple(steps))


def _step(rng: random.Random, before: list[Step]) -> Step:
    saves = [place for place, step in enumerate(before) if isinstance(step, SaveState)]
    makers: list[tuple[int, Callable[[], Step]]] = [
        (6, lambda: _forward_backward(rng)),
        (6, lambda: OptimStep(learning_rate=rng.choice(_RATES))),
        (2, lambda: CustomLoss(seeds=_batch(rng))),
        (3, SaveState),
        (2, SaveWeightsForSampler),
        (2, lambda: Sample(seed=rng.randrange(_SEEDS))),
        (2, Await),
        (2 if saves else 0, lambda: LoadState(place=rng.choice(saves), optimizer=rng.random() < 0.7)),
    ]
    (make,) = rng.choices([make for _, make in makers], [weight for weight, _ in makers])
    return make()


def _forward_backward(rng: random.Random) -> ForwardBackward:
    loss = rng.choice(("cross_entropy", "cross_entropy", "importance_sampling"))
    return ForwardBackward(seeds=_batch(rng), loss_fn=loss, forward_only=rng.random() < 0.1)


def _batch(rng: random.Random) -> tuple[int, ...]:
    return tuple([rng.randrange(_SEEDS) for _ in range(rng.randint(1, 4))])
