"""A smaller case that still fails: fewer faults, fewer programs, fewer steps, smaller batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from msgspec import structs

from tinker_actors.testing.campaign.case import Case
from tinker_actors.testing.faults import FaultPlan
from tinker_actors.testing.operations import CustomLoss, ForwardBackward, LoadState, Program, Step

__all__ = ["shrink"]

_TRIES: Final = 300


def shrink(case: Case, fails: Callable[[Case], bool], *, tries: int = _TRIES) -> Case:
    """The smallest case found by taking away one thing after the other as long as it ``fails``; ``case`` does.

    Runs ``tries`` cases at most.
    """
    left = tries
    smaller = True
    while smaller and left > 0:
        smaller = False
        for candidate in _smaller(case):
            if left == 0:
                break
            left -= 1
            if fails(candidate):
                case, smaller = candidate, True
                break
    return case


def _smaller(case: Case) -> Iterator[Case]:
    """Cases with one thing less, the most that can go first."""
    sessions = case.sessions
    for index in range(len(sessions)):
        if len(sessions) > 1:
            yield structs.replace(case, sessions=sessions[:index] + sessions[index + 1 :])
    for number, session in enumerate(sessions):
        for index in range(len(session)):
            if len(session) > 1:
                yield _with_session(case, number, session[:index] + session[index + 1 :])
    faults = case.plan.faults
    for index in range(len(faults)):
        yield structs.replace(case, plan=FaultPlan(faults[:index] + faults[index + 1 :]))
    for number, session in enumerate(sessions):
        for index, program in enumerate(session):
            for steps in _fewer_steps(program.steps):
                changed = (*session[:index], Program(steps=steps), *session[index + 1 :])
                yield _with_session(case, number, changed)
    if case.asks:
        yield structs.replace(case, asks=False)
    if case.load_first_only:
        yield structs.replace(case, load_first_only=False)
    if case.parallel_chunks:
        yield structs.replace(case, parallel_chunks=False)


def _with_session(case: Case, number: int, session: tuple[Program, ...]) -> Case:
    return structs.replace(case, sessions=(*case.sessions[:number], session, *case.sessions[number + 1 :]))


def _fewer_steps(steps: tuple[Step, ...]) -> Iterator[tuple[Step, ...]]:
    for place in reversed(range(len(steps))):
        fewer = _without(steps, place)
        if fewer:
            yield fewer
    for place, step in enumerate(steps):
        if isinstance(step, ForwardBackward | CustomLoss) and len(step.seeds) > 1:
            yield (*steps[:place], structs.replace(step, seeds=step.seeds[:1]), *steps[place + 1 :])


def _without(steps: tuple[Step, ...], place: int) -> tuple[Step, ...]:
    """Loads of a save that goes go with it; other loads name their save's new place."""
    kept = [
        index
        for index, step in enumerate(steps)
        if index != place and not (isinstance(step, LoadState) and step.place == place)
    ]
    moved = {index: place for place, index in enumerate(kept)}
    fewer: list[Step] = []
    for index in kept:
        step = steps[index]
        fewer.append(structs.replace(step, place=moved[step.place]) if isinstance(step, LoadState) else step)
    return tuple(fewer)
