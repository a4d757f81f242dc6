"""The real supervisors do what the sequential model says, for any tree and any list of operations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st

from supervision import Backoff, ChildSpec, DynamicSupervisorSpec, PartitionSupervisorSpec, SupervisorSpec
from supervision.testing import TreeModel, TreeScenario, check_against_model
from supervision.testing import scripted as scripted_module
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
)
from supervision.testing.scripted import Scripted
from supervision.testing.strategies import scenarios


@settings(deadline=None)
@given(scenarios(), st.integers(0, 2**32 - 1))
def test_the_real_tree_does_what_the_model_does(scenario: TreeScenario, seed: int) -> None:
    check_against_model(scenario, seed=seed)


def test_an_operation_that_ends_the_system_may_be_cut_off_by_that() -> None:
    inner = SupervisorSpec("i", children=[actor("b")], max_restarts=0, backoff=after(0.0))
    outer = SupervisorSpec("o", children=[actor("a"), inner], max_restarts=0, backoff=after(0.0))
    operations = (Start("t", outer), Crash("t/o/a"), FailNextInit("t/o/a"), Restart("t", "o"))
    scenario = TreeScenario(name="t", operations=operations, max_restarts=1)
    outcomes = [len(check_against_model(scenario, seed=seed).outcomes) for seed in range(5)]
    assert set(outcomes) <= {3, 4}
    assert 3 in outcomes  # otherwise this is no such operation any more


def after(seconds: float) -> Backoff:
    return Backoff(initial=seconds, maximum=seconds, jitter=0.0)


def actor(name: str, seconds: float = 0.0, **options: Any) -> ChildSpec:
    return ChildSpec(name, Scripted, backoff=after(seconds), **options)


def group(strategy: Any, *children: Any, **options: Any) -> SupervisorSpec:
    options.setdefault("max_restarts", 100)
    return SupervisorSpec("g", strategy=strategy, children=children, backoff=after(0.0), **options)


def run(*operations: Operation, **options: Any) -> tuple[list[str], dict[str, str]]:
    """Checked against the model under a few schedules; the trace in short, and the last states."""
    options.setdefault("max_restarts", 100)
    scenario = TreeScenario(name="t", operations=operations, **options)
    for seed in range(5):
        seen = check_against_model(scenario, seed=seed)
    kinds = {"started": "+", "restarted": "+", "ended": "-", "crashed": "!", "gave_up": "?", "auto_shutdown": "="}
    model = TreeModel(scenario)
    for operation in operations:
        model.apply(operation)
    trace = [kinds[step.kind] + step.path.removeprefix("t/") for step in model.trace if step.kind in kinds]
    return trace, seen.states[-1]


# ---- the model itself: written out by hand


def test_the_model_of_a_batch() -> None:
    for strategy, down, up in (
        ("one_for_one", "", "b"),
        ("rest_for_one", "dc", "bcd"),
        ("one_for_all", "dca", "abcd"),
    ):
        trace, states = run(Start("t", group(strategy, *map(actor, "abcd"))), Crash("t/g/b"))
        assert trace == [
            *("+g/a", "+g/b", "+g/c", "+g/d", "+g"),
            *("!g/b", "-g/b"),
            *(f"-g/{name}" for name in down),
            *(f"+g/{name}" for name in up),
        ]
        assert states["t/g"] == "running 4/4"


def test_the_model_of_an_escalation() -> None:
    inner = SupervisorSpec(
        "s", children=[actor("a"), actor("b", restart="temporary")], max_restarts=0, backoff=after(1)
    )
    trace, states = run(Start("t", group("rest_for_one", inner, actor("c"))), Crash("t/g/s/a"), Advance(2.0))
    assert trace == [
        *("+g/s/a", "+g/s/b", "+g/s", "+g/c", "+g"),
        *("!g/s/a", "?g/s", "!g/s", "-g/s/a"),
        *("-g/c", "-g/s/b", "-g/s"),  # really, the two supervisors stop theirs at the same time
        *("+g/s/a", "+g/s", "+g/c"),
    ]
    assert states["t/g/s"] == "running 1/1"


def test_the_model_of_an_automatic_shutdown() -> None:
    children = [actor("a"), actor("b", restart="transient", significant=True)]
    spec = group("one_for_one", *children, auto_shutdown="any_significant")
    trace, states = run(Start("t", spec), Quit("t/g/b"), max_restarts=1)
    assert trace == ["+g/a", "+g/b", "+g", "-g/b", "=g", "-g/a", "-g", "+g/a", "+g/b", "+g"]
    assert states["t/g"] == "running 2/2"


def test_the_model_forgets_restarts_with_the_supervisors_life() -> None:
    spec = group("one_for_one", actor("a"), max_restarts=1)
    trace, states = run(Start("t", spec), *[Crash("t/g/a")] * 3)
    assert trace.count("?g") == 1  # two crashes make it give up; the third is the first of its next life
    trace, states = run(Start("t", spec), *[Crash("t/g/a")] * 4)
    assert trace.count("?g") == 2
    assert states["t/g"] == "running 1/1"


def test_the_model_forgets_the_back_off_of_who_is_restarted_by_hand() -> None:
    spec = ChildSpec("a", Scripted, backoff=Backoff(initial=1.0, factor=2.0, maximum=8.0, jitter=0.0))
    crash = (Crash("t/a"), Advance(1.5))
    assert run(Start("t", spec), *crash)[1]["t/a"] == "running"
    assert run(Start("t", spec), *crash, *crash)[1]["t/a"] == "waiting"  # for 2 s now
    assert run(Start("t", spec), *crash, Restart("t", "a"), *crash)[1]["t/a"] == "running"


# ---- what the comparison has found


def test_a_restart_by_hand_comes_back_although_the_supervisor_gives_up_in_it() -> None:
    """Its waiter had been forgotten when the next incarnation began at once."""
    spec = group("one_for_one", actor("a"), max_restarts=0)
    _, states = run(Start("t", spec), FailNextInit("t/g/a"), Restart("t", "g"))
    assert states["t/g"] == "running 1/1"


def test_who_went_down_with_a_child_that_is_then_stopped_comes_up() -> None:
    """The batch began with the broken child; once that was stopped, the rest stayed down for ever."""
    spec = group("rest_for_one", actor("a", 1.0), actor("b"), actor("c"))
    _, states = run(Start("t", spec), Crash("t/g/a"), Stop("t/g", "a"), Advance(2.0))
    assert (states["t/g/b"], states["t/g/c"]) == ("running", "running")
    _, states = run(Start("t", spec), Crash("t/g/a"), Stop("t/g", "a"), Start("t/g", actor("d")), Advance(2.0))
    assert [states[f"t/g/{name}"] for name in "bcd"] == ["running"] * 3


def test_a_child_that_fails_in_its_supervisors_restart_comes_beside_its_siblings() -> None:
    inner = SupervisorSpec("s", max_restarts=0, max_seconds=0.7, children=[actor("a")], backoff=after(0.0))
    outer = SupervisorSpec("g", max_restarts=1, max_seconds=0.7, children=[inner, actor("b")], backoff=after(1.0))
    crash = Crash(path="t/g/s/a")
    trace, states = run(
        Start(supervisor="t", spec=outer), crash, crash, FailNextInit(path="t/g/s/a"), Advance(seconds=2.0)
    )
    assert trace.count("+g/s") == 3
    assert (states["t/g/s"], states["t/g/b"]) == ("running 1/1", "running")


def test_a_batch_waits_for_the_longest_delay() -> None:
    """A second crash had its own delay cut short by the first one's."""
    spec = group("rest_for_one", actor("a", 5.0), actor("b", 1.0), actor("c"))
    operations = [Start("t", spec), Crash("t/g/b"), Crash("t/g/a"), Advance(3.0)]
    _, states = run(*operations)
    assert states["t/g/a"] == "down"
    _, states = run(*operations, Advance(3.0))
    assert states["t/g"] == "running 3/3"


def test_a_crash_while_a_batch_waits_joins_it() -> None:
    """Those between the two are stopped and started as well."""
    spec = group("rest_for_one", actor("a"), actor("b"), actor("c", 1.0), actor("d"))
    trace, states = run(Start("t", spec), Crash("t/g/c"), Crash("t/g/a"), Advance(2.0))
    assert trace[5:] == ["!g/c", "-g/c", "-g/d", "!g/a", "-g/a", "-g/b", "+g/a", "+g/b", "+g/c", "+g/d"]
    assert states["t/g"] == "running 4/4"


# ---- that it would find more


@pytest.mark.parametrize(
    "wanted",
    [
        lambda model: any(step.kind == "gave_up" for step in model.trace),
        lambda model: any(step.kind == "degraded" for step in model.trace),
        lambda model: any(step.kind == "auto_shutdown" for step in model.trace),
        lambda model: model.failed,
        lambda model: model.finished_by is not None,
        lambda model: sum(step.kind == "gave_up" for step in model.trace) > 1,
        lambda model: any(state == "waiting" for state in model.states().values()),
        lambda model: any(state == "down" for state in model.states().values()),
    ],
)
def test_the_strategies_reach_it(wanted: Callable[[TreeModel], bool]) -> None:
    def reached(scenario: TreeScenario) -> bool:
        model = TreeModel(scenario)
        for operation in scenario.operations:
            model.apply(operation)
            if model.over:
                break
        return wanted(model)

    find(scenarios(), reached, settings=settings(max_examples=2000, phases=[Phase.generate], database=None))


@pytest.mark.parametrize(
    ("operations", "attribute", "value"),
    [
        # another order of stops, another state, another outcome
        (
            [Start("t", group("one_for_all", actor("a"), actor("b"))), Crash("t/g/a")],
            "trace",
            lambda trace: trace[::-1],
        ),
        ([Start("t", actor("a"))], "states", lambda states: [{**states[0], "t/a": "stopped"}]),
        ([Start("t", actor("a")), Stop("t", "b")], "outcomes", lambda outcomes: ["ok", "ok"]),
        ([Start("t", actor("a"))], "failed", lambda failed: True),
        ([Start("t", actor("a"))], "trace", lambda trace: trace[:-1]),
    ],
)
def test_where_they_part_is_said(
    operations: list[Operation], attribute: str, value: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = scripted_module.run_scenario
    scenario = TreeScenario(name="t", operations=tuple(operations), max_restarts=100)

    def lie(scenario: TreeScenario, *, seed: int) -> Any:
        seen = real(scenario, seed=seed)
        setattr(seen, attribute, value(getattr(seen, attribute)))
        return seen

    check_against_model(scenario, seed=1)
    monkeypatch.setattr(scripted_module, "run_scenario", lie)
    with pytest.raises(AssertionError):
        check_against_model(scenario, seed=1)


def test_operations_on_what_is_not_there() -> None:
    outcomes = check_against_model(
        TreeScenario(
            name="t",
            operations=(
                Start("t", DynamicSupervisorSpec("d", max_children=1)),
                Start("t/d", actor("a", max_restarts=0, max_seconds=1.0)),
                Start("t/d", actor("b")),
                Start("t/d", actor("a")),
                Start("t/none", actor("a")),
                Start("t/d", actor("c", restart="transient", significant=True)),
                Delete("t/d", "a"),
                Delete("t/d", "none"),
                Crash("t/d/none"),
                Crash("t/d"),
                Crash("t/d/a"),
                Quit("t/d/a"),
                Delete("t/d", "a"),
                Start("t/d", actor("e", restart="temporary")),
                Restart("t/d", "e"),
                Stop("t", "d"),
                Start("t/d", actor("a")),
                Restart("t", "d"),
            ),
        ),
        seed=0,
    ).outcomes
    assert outcomes == [
        *("ok", "ok", "TooManyChildren", "NameTaken", "skipped", "InvalidSpec", "ChildNotStopped", "ChildNotFound"),
        *("skipped", "skipped", "ok", "skipped", "ok", "ok", "InvalidSpec", "ok", "NotRunning", "ok"),
    ]


def test_what_the_model_does_not_know() -> None:
    spec = PartitionSupervisorSpec("p", child=lambda number: actor(f"a{number}"), partitions=2)
    with pytest.raises(ValueError, match="the model knows no PartitionSupervisorSpec"):
        TreeModel(TreeScenario(operations=())).apply(Start("system", spec))
    with pytest.raises(TypeError, match="no operation of this model"):
        TreeModel(TreeScenario(operations=())).apply(Operation())
