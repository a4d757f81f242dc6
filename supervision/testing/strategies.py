"""Hypothesis strategies for supervision trees and for what is done to them; needs the `testing` extra."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import Literal

from hypothesis import strategies as st

from supervision.backoff import Backoff
from supervision.spec import AnySpec, AutoShutdownMode, ChildSpec, DynamicSupervisorSpec, SupervisorSpec
from supervision.spec import Restart as RestartType
from supervision.testing.operations import (
    Advance,
    Crash,
    Delete,
    FailNextInit,
    Operation,
    Quit,
    Restart,
    Start,
    Stop,
    TreeScenario,
)
from supervision.testing.scripted import Scripted

__all__ = ["operations", "scenarios", "specs"]

_RESTARTS: Sequence[RestartType] = ("permanent", "permanent", "transient", "temporary")
_GIVING_UP: Sequence[Literal["escalate", "degrade"]] = ("escalate", "escalate", "degrade")
_AUTO_SHUTDOWN: Sequence[AutoShutdownMode] = ("never", "never", "any_significant", "all_significant")


def _backoff(draw: st.DrawFn, number: int) -> Backoff:
    """None, or one that no two places of a scenario have: nothing happens at the same time by chance."""
    initial = draw(st.sampled_from([0.0, 0.9 + 0.0137 * number]))
    return Backoff(initial=initial, factor=2.0, maximum=8 * initial, jitter=0.0, reset_after=6.5)


def _intensity(draw: st.DrawFn) -> tuple[int, float]:
    return draw(st.integers(0, 3)), draw(st.sampled_from([0.7, 4.3]))


@st.composite
def specs(draw: st.DrawFn, *, numbers: count[int], depth: int = 2, significant: bool = False) -> AnySpec:
    """A spec of Scripted actors under supervisors at most `depth` deep. `numbers` makes names and times unique."""
    number = next(numbers)
    restart = draw(st.sampled_from(_RESTARTS))
    backoff = _backoff(draw, number)
    weight = significant and restart != "permanent" and draw(st.booleans())
    kinds = ["actor"]
    if depth == 1:
        kinds += ["actor", "actor", "static", "dynamic"]
    elif depth:
        kinds = ["static", "static", "actor", "dynamic"]
    kind = draw(st.sampled_from(kinds))
    if kind == "actor":
        own = _intensity(draw) if draw(st.integers(0, 4)) == 0 else (None, None)
        return ChildSpec(
            f"a{number}",
            Scripted,
            restart=restart,
            backoff=backoff,
            significant=weight,
            max_restarts=own[0],
            max_seconds=own[1],
        )
    max_restarts, max_seconds = _intensity(draw)
    on_intensity = draw(st.sampled_from(_GIVING_UP))
    if kind == "dynamic":
        return DynamicSupervisorSpec(
            f"d{number}",
            restart=restart,
            backoff=backoff,
            significant=weight,
            max_restarts=max_restarts,
            max_seconds=max_seconds,
            on_intensity=on_intensity,
            max_children=draw(st.sampled_from([None, None, 2])),
        )
    auto_shutdown = draw(st.sampled_from(_AUTO_SHUTDOWN))
    below = specs(numbers=numbers, depth=depth - 1, significant=auto_shutdown != "never")
    return SupervisorSpec(
        f"s{number}",
        strategy=draw(st.sampled_from(["one_for_one", "rest_for_one", "one_for_all"])),
        auto_shutdown=auto_shutdown,
        children=draw(st.lists(below, min_size=1, max_size=4)),
        restart=restart,
        backoff=backoff,
        significant=weight,
        max_restarts=max_restarts,
        max_seconds=max_seconds,
        on_intensity=on_intensity,
    )


def _places(supervisor: str, spec: AnySpec) -> list[tuple[str, AnySpec]]:
    """(path of its supervisor, spec) of it and of all below it."""
    found = [(supervisor, spec)]
    if isinstance(spec, SupervisorSpec):
        for child in spec.children:
            found += _places(f"{supervisor}/{spec.name}", child)
    return found


@st.composite
def operations(draw: st.DrawFn, places: Sequence[tuple[str, AnySpec]], root: str) -> Operation:
    """An operation on one of these places: of each (the path of its supervisor, its spec). Most often on the first
    three: what counts is often what happens to the same one again.
    """
    places = [*places, *(4 * list(places[:3]))]
    actors = [f"{above}/{spec.name}" for above, spec in places if isinstance(spec, ChildSpec)]
    kinds = ["crash"] * 6 + ["quit"] * 2 + ["fail"] if actors else []
    kinds += ["advance", "stop", "restart", "start", "start elsewhere", "delete"]
    kind = draw(st.sampled_from(kinds))
    if kind == "advance":
        return Advance(draw(st.sampled_from([0.05, 1.0, 3.3, 11.0])))
    if kind in {"crash", "quit", "fail"}:
        make = {"crash": Crash, "quit": Quit, "fail": FailNextInit}[kind]
        return make(draw(st.sampled_from(actors)))
    above, spec = draw(st.sampled_from(places))
    if kind == "start elsewhere":  # where it may not belong
        supervisors = [root, *(f"{above}/{spec.name}" for above, spec in places if not isinstance(spec, ChildSpec))]
        above = draw(st.sampled_from(supervisors))
    if kind.startswith("start"):
        return Start(above, spec)
    return {"stop": Stop, "restart": Restart, "delete": Delete}[kind](above, spec.name)


@st.composite
def scenarios(draw: st.DrawFn, *, max_operations: int = 20) -> TreeScenario:
    """A system of one to three children, and a list of operations on all that may be in it."""
    numbers = count()
    name = "t"
    auto_shutdown = draw(st.sampled_from(_AUTO_SHUTDOWN))
    tree = draw(st.lists(specs(numbers=numbers, significant=auto_shutdown != "never"), min_size=1, max_size=3))
    spare = draw(st.lists(specs(numbers=numbers, depth=1, significant=True), max_size=2))
    places = [place for spec in tree for place in _places(name, spec)]
    supervisors = [name, *(f"{above}/{spec.name}" for above, spec in places if not isinstance(spec, ChildSpec))]
    for spec in spare:
        places += _places(draw(st.sampled_from(supervisors)), spec)
    places = draw(st.permutations(places))
    done = draw(st.lists(operations(places, name), min_size=max_operations // 2, max_size=max_operations))
    return TreeScenario(
        operations=(*(Start(name, spec) for spec in tree), *done),
        name=name,
        max_restarts=draw(st.sampled_from([1, 1000, 1000])),
        max_seconds=5.0,
        auto_shutdown=auto_shutdown,
    )
