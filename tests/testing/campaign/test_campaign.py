"""Cases are drawn, run, judged, made small and searched for as the command line says."""

from __future__ import annotations

import pytest
from msgspec import structs

from supervision import ActorCrashed, CrashReport
from tinker_actors.errors import status_error
from tinker_actors.server_class import ServerClass
from tinker_actors.testing import faults, operations
from tinker_actors.testing.campaign import case as case_module
from tinker_actors.testing.campaign.__main__ import main
from tinker_actors.testing.campaign.case import Case, drawn_case
from tinker_actors.testing.campaign.checks import violations
from tinker_actors.testing.campaign.coverage import Coverage, Covered, covered_by
from tinker_actors.testing.campaign.job_program import JobProgram
from tinker_actors.testing.campaign.run import Report, refused_status, run_case
from tinker_actors.testing.campaign.search import check_case, search
from tinker_actors.testing.campaign.shrink import shrink
from tinker_actors.testing.faults import (
    FAULT_KINDS,
    CrashAt,
    DropAfter,
    Duplicate,
    Ending,
    FaultPlan,
    FullDisk,
    KillRuntime,
    LostSync,
    RestartServer,
    Status,
    TornWrite,
)
from tinker_actors.testing.operations import (
    CustomLoss,
    ForwardBackward,
    LoadState,
    OptimStep,
    Program,
    Sample,
    SaveState,
)

POLL = "/retrieve_future"
CASE = Case(
    seed=3,
    sessions=(
        (
            Program(
                steps=(
                    ForwardBackward(seeds=(1, 2, 3)),
                    OptimStep(),
                    SaveState(),
                    CustomLoss(seeds=(4,)),
                    OptimStep(),
                    Sample(seed=5),
                    LoadState(place=2, optimizer=True),
                )
            ),
        ),
    ),
    plan=FaultPlan((DropAfter(path="/optim_step"), CrashAt(point="training.polling", nth=2))),
)


@pytest.fixture(scope="module")
def report() -> Report:
    return run_case(CASE)


def broken_by(report: Report, **changes: object) -> tuple[str, ...]:
    (client,) = report.clients
    return violations(CASE, structs.replace(report, clients=(structs.replace(client, **changes),)))


def test_a_seed_is_a_case_that_prints_as_the_python_that_makes_it_again():
    names = vars(operations) | vars(faults) | vars(case_module)
    for seed in range(30):
        case = drawn_case(seed)
        assert case == drawn_case(seed)
        assert case != drawn_case(seed + 1)
        assert eval(repr(case), dict(names)) == case


def test_cases_hold_every_kind_of_fault_and_step():
    cases = [drawn_case(seed) for seed in range(300)]
    assert {type(fault) for case in cases for fault in case.plan.faults} == set(FAULT_KINDS)
    polls = [fault for case in cases for fault in case.plan.faults if getattr(fault, "path", "") == POLL]
    statuses = {fault.status for fault in polls if isinstance(fault, Status)}
    assert statuses >= {400, 401, 402, 403, 404, 408, 409, 410, 422, 429, 500, 502, 503, 504}  # WIRE 3.3
    refused = [fault for fault in polls if isinstance(fault, Status) and fault.status in (400, 422)]
    assert {fault.ending for fault in refused} == {Ending.EQUAL, Ending.ERROR}
    steps = {
        type(step) for case in cases for session in case.sessions for program in session for step in program.steps
    }
    assert len(steps) == 8
    assert {tuple(map(len, case.sessions)) for case in cases} == {(1,), (2,), (1, 1), ()}


@pytest.mark.parametrize("seed", [24, 49])
def test_each_25th_case_loses_its_model_while_a_result_is_late_that_a_save_is_ahead_of(seed: int):
    case = drawn_case(seed)
    outcome = run_case(case)
    late, loss = case.plan.faults
    assert [fired.fault for fired in outcome.fired] == [late, loss]
    assert outcome.rebuilt
    assert violations(case, outcome) == ()


def test_a_run_that_keeps_its_promises_is_reported_whole(report: Report):
    assert violations(CASE, report) == ()
    assert len(report.fired) == 2
    assert report.recovered
    assert not report.left


def test_a_job_whose_process_dies_is_run_again_to_the_same_end():
    job = JobProgram(steps=4, every=2, ahead=1)
    plan = FaultPlan((KillRuntime(step=300), FullDisk(nth=4), KillRuntime(step=600)))
    case = Case(seed=1, sessions=(), plan=plan, job=job)
    outcome = run_case(case)
    assert [type(fired.fault) for fired in outcome.fired].count(KillRuntime) == 2
    assert outcome.recovered
    assert violations(case, outcome) == ()
    assert outcome.job is not None
    rows = outcome.job.rows
    other = structs.replace(outcome.job, rows=(*rows[:-1], rows[0]), digest="0" * 64)
    assert [line[:2] for line in violations(case, structs.replace(outcome, job=other))] == ["P7", "P7"]


@pytest.mark.parametrize("fault", [TornWrite(nth=2), LostSync(nth=2)], ids=str)
def test_a_job_that_dies_within_a_write_is_run_again_to_the_same_end(fault: TornWrite | LostSync):
    case = Case(seed=2, sessions=(), plan=FaultPlan((fault,)), job=JobProgram(steps=4, every=2, ahead=1))
    outcome = run_case(case)
    assert [fired.fault for fired in outcome.fired] == [fault]
    assert "metrics.jsonl" in outcome.fired[0].subject
    assert outcome.recovered
    assert violations(case, outcome) == ()


def test_each_broken_promise_is_named(report: Report):
    (client,) = report.clients
    first, *others = client.applied
    assert "P1" in broken_by(report, applied=tuple(others))[0]
    assert "P1" in broken_by(report, applied=(*client.applied, structs.replace(first, seq_id=len(others) + 2)))[0]
    assert "P2: no loss came of step(s) 3" in broken_by(report, losses={0: client.losses[0]})[0]
    assert "P2: step 1 failed" in broken_by(report, failed={1: "OutageError: ..."})[0]
    assert "P2: the lane has stopped" in broken_by(report, stopped="ModelLost: ...")[0]
    assert "P3: the loss of step 0" in broken_by(report, losses={**client.losses, 0: 1.0})[0]
    assert "P3: the sample of step 5" in broken_by(report, samples={5: ((1,), (-1.0,))})[0]
    assert "P3: the weights" in broken_by(report, digest="0" * 64)[0]
    (digest,) = client.saves
    log = {**report.log, digest: 2}
    assert "P2: a save that had finished" in violations(CASE, structs.replace(report, log=log))[0]
    assert "P5: 2 actors left" in violations(CASE, structs.replace(report, left=("2 actors",)))[0]
    crashes = (*report.crashes, ("runtime/x", "ValueError: no"))
    assert "P6: runtime/x crashed by itself" in violations(CASE, structs.replace(report, crashes=crashes))[0]
    restarted = (*report.restarted, "runtime/y")
    assert "P6: runtime/y was restarted" in violations(CASE, structs.replace(report, restarted=restarted))[0]
    assert "vacuous" in violations(CASE, structs.replace(report, fired=()))[0]


@pytest.mark.parametrize("status", [401, 403, 409])
def test_a_creation_that_the_plan_refuses_is_no_crash_and_nothing_else_is_passed(status: int, report: Report):
    refused = Status(path="/retrieve_future", nth=1, times=2, status=status)  # also with the credential asked anew
    case = structs.replace(CASE, plan=FaultPlan((refused,)))
    outcome = run_case(case)
    assert {(path.rpartition("/")[2], of) for path, of in outcome.refused} == {
        (f"training-{number}", status) for number in range(1 if status == 401 else 2)
    }
    assert outcome.crashes == ()
    assert violations(case, outcome) == ()
    later = structs.replace(outcome, crashes=(("runtime/x", "AuthenticationError: no"),))
    assert "P6: runtime/x crashed by itself" in violations(case, later)[0]
    other = structs.replace(outcome, refused=(("runtime/x", status + 1),))
    assert "P6: runtime/x did not start" in violations(case, other)[0]
    assert (
        "P6: runtime/x did not start" in violations(CASE, structs.replace(report, refused=(("runtime/x", 401),)))[0]
    )


def test_only_what_had_not_started_yet_was_refused():
    def crashed(error: Exception, *, starting: bool) -> ActorCrashed:
        return ActorCrashed("runtime/x", 1, CrashReport("runtime/x", 1, 0.0, error), starting)

    refused = status_error(403, "no")
    assert refused_status(crashed(refused, starting=True)) == 403
    assert refused_status(crashed(refused, starting=False)) is None
    assert refused_status(crashed(status_error(500, "no"), starting=True)) is None
    assert refused_status(crashed(ValueError("no"), starting=True)) is None


def test_where_an_error_may_come_the_rest_is_that_of_a_run_without_it():
    case = structs.replace(CASE, plan=FaultPlan((Status(path="/optim_step", nth=2, status=422),)))
    outcome = run_case(case)
    (client,) = outcome.clients
    assert list(client.failed) == [4]
    assert violations(case, outcome) == ()
    assert "P3" in violations(case, structs.replace(outcome, clients=(structs.replace(client, failed={}),)))[0]


def test_what_was_refused_as_its_lane_stopped_counts_where_a_later_result_shows_that_it_was_done(
    report: Report,
):
    case = structs.replace(CASE, plan=FaultPlan((Status(path=POLL, status=403),)))
    (client,) = report.clients

    def told(**changes: object) -> tuple[str, ...]:
        refused = {"failed": {1: "PermissionDeniedError: no"}, "stopped": "no"}
        changed = structs.replace(client, **(refused | changes))
        return violations(case, structs.replace(report, clients=(changed,)))

    assert told() == ()
    assert "P3: the loss of step 3" in told(stopped=None)[0]
    assert "P3: the loss of step 3" in told(stopped="another reason")[0]


def test_a_verdict_is_decided_on_and_then_nothing_is_missing():
    plan = FaultPlan((DropAfter(path="/optim_step"), DropAfter(path="/save_weights")))
    case = structs.replace(CASE, plan=plan, server_class=ServerClass.NONE, asks=True)
    assert case.ending is Ending.VERDICT
    outcome = run_case(case)
    (client,) = outcome.clients
    assert ["can't be known whether" in one for one in client.verdicts] == [True, True]
    assert violations(case, outcome) == ()
    assert covered_by(case, outcome).verdicts == 2
    assert "P2: a verdict, and no fault" in violations(structs.replace(case, asks=False), outcome)[0]
    told = structs.replace(case, asks=False)
    assert run_case(told).clients[0].verdicts == ()


def test_a_case_is_made_as_small_as_it_fails():
    case = structs.replace(CASE, sessions=(*CASE.sessions, *CASE.sessions), load_first_only=True)

    def fails(candidate: Case) -> bool:
        steps = [step for session in candidate.sessions for program in session for step in program.steps]
        return any(isinstance(step, LoadState) for step in steps) and bool(candidate.plan.faults)

    small = shrink(case, fails)
    assert small.sessions == ((Program(steps=(SaveState(), LoadState(place=0, optimizer=True))),),)
    assert len(small.plan.faults) == 1
    assert not small.load_first_only
    assert shrink(case, fails, tries=1) != case


def test_too_little_is_said():
    covered = Covered(
        kinds=("DropAfter",), server_class="dedup", faults=1, recovered=False, operations=2, seconds=3600.0
    )
    coverage = Coverage.of([covered] * 10)
    assert "DropBefore: 0 runs only" in coverage.gaps()
    assert "something was made good in 0 of 10 runs only" in coverage.gaps()
    assert "poll 403: 0 runs only" in coverage.gaps()
    assert "restart with memory: 0 runs only" in coverage.gaps()
    assert "a verdict in 0 runs only" in coverage.gaps()
    assert not any(gap.startswith("DropAfter") for gap in coverage.gaps())
    assert "10 runs, 20 operations, 10 faults, 10.0 simulated hours" in str(coverage)


def test_what_polls_are_answered_and_what_a_restart_keeps_is_counted():
    faults = (
        Status(path="future", nth=3, status=503),
        Status(path=POLL, nth=6, times=3, status=400),
        Status(path="/optim_step", status=500),
        RestartServer(path="/save_weights", keeps="memory"),
    )
    case = structs.replace(CASE, plan=FaultPlan(faults))
    outcome = run_case(case)
    sorts = ("poll 400", "poll 5xx", "restart with memory")
    assert covered_by(case, outcome).kinds == ("RestartServer", "Status", *sorts)
    only = structs.replace(outcome, fired=tuple(one for one in outcome.fired if one.fault is faults[2]))
    assert covered_by(case, only).kinds == ("Status",)


def test_what_a_run_raises_is_a_finding():
    broken, covered = check_case(structs.replace(CASE, plan=FaultPlan((Duplicate(path="", nth=10_000),))))
    assert broken == ("vacuous: no fault of the plan has happened",)
    assert covered is not None


def test_a_search_in_processes_covers_all_its_seeds(capsys: pytest.CaptureFixture[str]):
    outcome = search(0, 6, processes=2)
    assert outcome.findings == ()
    assert outcome.coverage.runs == 6
    assert main(["soak", "--seconds", "0.5", "--processes", "1"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("simulated hours ")


def test_a_seed_is_replayed(capsys: pytest.CaptureFixture[str]):
    assert main(["replay", "7"]) == 0
    assert "every promise is kept" in capsys.readouterr().out
