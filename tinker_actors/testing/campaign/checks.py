"""What a run must have kept: the promises P1 to P6, each broken one in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from itertools import pairwise
from typing import Final

from tinker_actors.local.applied import AppliedOperation
from tinker_actors.server_class import ServerClass
from tinker_actors.testing.campaign.case import Case
from tinker_actors.testing.campaign.job_program import JobProgram, JobResult
from tinker_actors.testing.campaign.run import ClientReport, Report, run_case
from tinker_actors.testing.faults import Ending, FaultPlan, InjectedCrash, Status
from tinker_actors.testing.oracle import Expected, expected

__all__ = ["violations"]

_TRAINS: Final = ("forward_backward", "forward_backward_custom", "optim_step", "load_state")
_SHOWN: Final = 3


def violations(case: Case, report: Report) -> tuple[str, ...]:
    """The promises that the run has broken; none is as it should be.

    A plan that must end bit-equal is compared with the oracle's run of the whole program, any other with its run of
    what did not fail.
    """
    found = [*report.waits, *(f"P5: {left} left behind" for left in report.left), *_isolation(report)]
    if not report.fired:
        found.append("vacuous: no fault of the plan has happened")
    if case.job is not None:
        found.extend(_job(case.job, report))
    for client in report.clients:
        found.extend(f"{problem} (client {client.name})" for problem in _client(case, report, client))
    return tuple(found)


def _client(case: Case, report: Report, client: ClientReport) -> Iterator[str]:
    ending = case.plan.ending  # verdicts are decided by restore(), and then nothing is missing
    asked = any(fired.fault.ending_at(case.server_class, asks=case.asks) is Ending.VERDICT for fired in report.fired)
    if client.verdicts and not asked:
        yield f"P2: a verdict, and no fault of the plan may end with one: {client.verdicts[0]}"
    if ending is Ending.EQUAL and client.stopped is not None:
        yield f"P2: the lane has stopped, and its plan must end {ending}: {client.stopped}"
    if client.failed and ending is Ending.EQUAL:
        for place, error in tuple(client.failed.items())[:_SHOWN]:
            yield f"P2: step {place} failed, and its plan must end {ending}: {error}"
        return
    for place in sorted(client.untold)[:_SHOWN]:
        yield f"P2: step {place} was accepted, and its caller, which was cancelled, has no Future"
    truth = expected(client.program, without=client.skipped | (client.failed.keys() - _done_all_the_same(client)))
    yield from _results(client, truth)
    if client.stopped is not None:
        return  # its model stands somewhere in between
    yield from _order(case, client)
    if client.digest != truth.digest:
        yield f"P3: the weights are not those of the undisturbed run (model {client.digest[:8]})"
    for digest, times in client.saves.items():
        if report.log.get(digest, 0) != times:
            again = report.log.get(digest, 0) - times
            yield f"P2: a save that had finished was done {again} more time(s)"


def _done_all_the_same(client: ClientReport) -> frozenset[int]:
    """Those whose results were refused with the lane's stop, of which later results show that they took effect."""
    if client.stopped is None:
        return frozenset()
    stop, last = client.stopped, max((*client.losses, *client.samples), default=-1)
    return frozenset(place for place, error in client.failed.items() if place < last and error.endswith(stop))


def _job(program: JobProgram, report: Report) -> Iterator[str]:
    truth = _undisturbed(program)
    assert report.job is not None
    assert truth.digest
    assert len(truth.rows) == program.steps
    if report.job.rows != truth.rows:
        rows = [row.partition(b",")[0].decode() for row in report.job.rows]
        yield f"P7: metrics.jsonl is not that of a run that nothing has disturbed: {rows}"
    if report.job.digest != truth.digest:
        yield f"P7: the weights are not those of the undisturbed run ({report.job.digest[:8]})"


@cache
def _undisturbed(program: JobProgram) -> JobResult:
    job = run_case(Case(seed=0, sessions=(), plan=FaultPlan(), job=program)).job
    assert job is not None
    return job


def _results(client: ClientReport, truth: Expected) -> Iterator[str]:
    for what, given, due in (
        ("loss", client.losses, truth.results.losses),
        ("sample", client.samples, truth.results.samples),
    ):
        for place, value in given.items():
            if value != due[place]:
                yield f"P3: the {what} of step {place} is {value}, and not {due[place]}"
        missing = due.keys() - given.keys() - client.untold - client.failed.keys()
        if missing:
            yield f"P2: no {what} came of step(s) {', '.join(map(str, sorted(missing)))}"


def _order(case: Case, client: ClientReport) -> Iterator[str]:
    """The newest model has applied what was accepted, in that order and each once, from some state on."""
    numbers = [operation.seq_id for operation in client.applied]
    # what failed at the server has a number and is not in its log
    holes = not client.failed and numbers != list(range(1, len(numbers) + 1))
    rising = all(number < following for number, following in pairwise(numbers))
    again = case.server_class is ServerClass.NONE  # whose class is found by what it does twice
    if not again and (holes or not rising):
        yield f"P1: seq_ids were applied as {numbers}"
    failed = {client.numbers[place] for place in client.failed if place in client.numbers}
    due: list[str | None] = []  # None: a custom loss's backward pass, whose content is not known here
    for operation in client.accepted:
        if operation.kind in _TRAINS and operation.op_no not in failed:
            custom = operation.kind == "forward_backward_custom"
            due.extend([None] * len(operation.digests) if custom else operation.digests)
    done = [operation for operation in client.applied if operation.kind in _TRAINS]
    restored = done[1:] if done and done[0].kind == "load_state" and done[0].seq_id == 1 else done
    if not (_is_end(done, due) or _is_end(restored, due)):
        kinds = [operation.kind for operation in done]
        yield f"P1: what the model has applied is no end of the {len(due)} requests that were accepted: {kinds}"


def _is_end(done: Sequence[AppliedOperation], due: Sequence[str | None]) -> bool:
    if len(done) > len(due):
        return False
    tail = due[len(due) - len(done) :]
    return all(digest in (None, one.digest) for one, digest in zip(done, tail, strict=True))


def _isolation(report: Report) -> Iterator[str]:
    for path, crash in report.crashes:
        if InjectedCrash.__name__ not in crash:
            yield f"P6: {path} crashed by itself: {crash}"
    statuses = {fired.fault.status for fired in report.fired if isinstance(fired.fault, Status)}
    for path, status in report.refused:
        if status not in statuses:
            yield f"P6: {path} did not start, since it was answered {status}, and no fault of the plan answers so"
    paths = {path for path, _ in report.crashes}
    for path in report.restarted:
        if path not in paths:
            yield f"P6: {path} was restarted although it had not crashed"
