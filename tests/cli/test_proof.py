"""The proof finds every way in which what was applied can differ from what was accepted."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinker_actors.cli.proof import Comparison, compare
from tinker_actors.cli.report import Findings
from tinker_actors.ledger import AcceptedOperation, OperationKind


def _accepted(*digests: tuple[str, ...]) -> list[AcceptedOperation]:
    return [AcceptedOperation(i, OperationKind.FORWARD_BACKWARD, d) for i, d in enumerate(digests, 1)]


ROW = (("a",), ("b", "c"), ("d",), ("a",))


def test_each_once_in_order_is_exact() -> None:
    found = compare(_accepted(*ROW), ["a", "b", "c", "d", "a"])
    assert found == Comparison(accepted=5, applied=5, missing=0, repeated=0, foreign=0, in_order=True)
    assert found.exact
    assert str(found) == "5 accepted, 5 applied"


@pytest.mark.parametrize(
    ("applied", "words"),
    [
        ("abcd", "5 accepted, 4 applied, 1 missing"),
        ("abdca", "5 accepted, 5 applied, in another order"),
        ("abbcda", "5 accepted, 6 applied, 1 repeated"),
        ("abcdaa", "5 accepted, 6 applied, 1 repeated"),
        ("abcdax", "5 accepted, 6 applied, 1 foreign"),
        ("bbcda", "5 accepted, 5 applied, 1 missing, 1 repeated"),
        ("", "5 accepted, 0 applied, 5 missing"),
    ],
)
def test_every_difference_is_named(applied: str, words: str) -> None:
    found = compare(_accepted(*ROW), list(applied))
    assert not found.exact
    assert str(found) == words


@given(st.lists(st.sampled_from("abc")), st.lists(st.sampled_from("abcd")))
def test_exact_is_equality_and_the_numbers_add_up(accepted: list[str], applied: list[str]) -> None:
    found = compare(_accepted(*((digest,) for digest in accepted)), applied)
    assert found.exact is (accepted == applied)
    assert found.accepted - found.missing + found.repeated + found.foreign == found.applied


def _findings(**changes: object) -> Findings:
    values: dict[str, object] = {
        "steps": 150,
        "third": 50,
        "own_server": True,
        "faults_planned": 4,
        "faults_fired": 4,
        "accuracy_before": 0.0,
        "accuracy_after": 0.97,
        "accepted": 5,
        "comparison": compare(_accepted(*ROW), list("abcda")),
        "digest": "1" * 64,
        "undisturbed_digest": "1" * 64,
        "restarts": 2,
        "wall_s": 20.123,
    }
    return Findings(**(values | changes))  # type: ignore[arg-type]


def test_a_good_run_passes_every_check() -> None:
    assert [check.verdict for check in _findings().checks()] == ["ok"] * 4


@pytest.mark.parametrize(
    ("changes", "failing"),
    [
        ({"faults_fired": 3}, "every planned fault happened"),
        ({"comparison": compare(_accepted(*ROW), list("abcd"))}, "every accepted operation was applied exactly once"),
        ({"undisturbed_digest": "2" * 64}, "the weights after step 50 equal those of an undisturbed run"),
        ({"accuracy_after": 0.94}, "the model has learned it"),
        ({"accuracy_before": 0.05}, "the model has learned it"),
    ],
)
def test_each_check_can_fail_alone(changes: dict[str, object], failing: str) -> None:
    wrong = [check for check in _findings(**changes).checks() if check.holds is not True]
    assert len(wrong) == 1
    assert wrong[0].verdict == "FAILED"
    assert wrong[0].claim.startswith(failing)


def test_what_a_foreign_server_cant_tell_is_unknown_and_null() -> None:
    findings = _findings(own_server=False, faults_planned=0, comparison=None, digest=None, undisturbed_digest=None)
    assert [check.verdict for check in findings.checks()] == ["unknown", "unknown"]
    report = findings.report()
    assert (report.operations_applied, report.in_order, report.digest_equal) == (None, None, None)
    assert report.operations_accepted == 5


def test_a_short_run_need_not_have_learned_it() -> None:
    assert all(check.holds for check in _findings(steps=3, accuracy_after=0.0).checks())
