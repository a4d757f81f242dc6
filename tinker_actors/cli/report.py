"""What a demo found out: the checks, their verdicts, and the object that --json prints."""

from __future__ import annotations

from typing import Final

import msgspec

from tinker_actors.cli.arguments import DEFAULT_STEPS
from tinker_actors.cli.proof import Comparison

__all__ = ["GOAL", "Check", "Findings", "Report"]

GOAL: Final = 0.95  # exact matches on held-out words after a run of the full length
_BEFORE: Final = 0.05


class Check(msgspec.Struct, frozen=True):
    """One claim. ``holds`` is None where it can't be known."""

    claim: str
    holds: bool | None
    detail: str

    @property
    def verdict(self) -> str:
        """In one word."""
        return {True: "ok", False: "FAILED", None: "unknown"}[self.holds]


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The JSON object; None is what the server can't tell."""

    accuracy_before: float
    accuracy_after: float
    operations_accepted: int
    operations_applied: int | None
    in_order: bool | None
    digest_equal: bool | None
    restarts: int
    wall_s: float


class Findings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that was measured. ``third`` is the number of steps in the first third."""

    steps: int
    third: int
    own_server: bool
    faults_planned: int
    faults_fired: int
    accuracy_before: float
    accuracy_after: float
    accepted: int
    comparison: Comparison | None
    digest: str | None
    undisturbed_digest: str | None
    restarts: int
    wall_s: float

    @property
    def digest_equal(self) -> bool | None:
        """Whether the two runs of the first third gave the same weights."""
        if self.digest is None or self.undisturbed_digest is None:
            return None
        return self.digest == self.undisturbed_digest

    def checks(self) -> tuple[Check, ...]:
        """The claims and whether they hold."""
        comparison = self.comparison
        found = [
            Check(
                "every accepted operation was applied exactly once, in order",
                None if comparison is None else comparison.exact,
                f"{self.accepted} accepted; this server can't tell what it applied"
                if comparison is None
                else str(comparison),
            ),
            Check(
                f"the weights after step {self.third} equal those of an undisturbed run, bit for bit",
                self.digest_equal,
                "this server can't tell"
                if self.digest is None or self.undisturbed_digest is None
                else f"sha256 {self.digest[:12]} and {self.undisturbed_digest[:12]}",
            ),
        ]
        if self.faults_planned:
            found.insert(
                0,
                Check(
                    "every planned fault happened",
                    self.faults_fired == self.faults_planned,
                    f"{self.faults_fired} of {self.faults_planned}, {self.restarts} restarts",
                ),
            )
        if self.own_server and self.steps >= DEFAULT_STEPS:
            found.append(
                Check(
                    f"the model has learned it: below {_BEFORE:.0%} right before, at least {GOAL:.0%} after",
                    self.accuracy_before < _BEFORE and self.accuracy_after >= GOAL,
                    f"{self.accuracy_before:.1%} before, {self.accuracy_after:.1%} after",
                )
            )
        return tuple(found)

    def report(self) -> Report:
        """The object that --json prints."""
        comparison = self.comparison
        return Report(
            accuracy_before=self.accuracy_before,
            accuracy_after=self.accuracy_after,
            operations_accepted=self.accepted,
            operations_applied=None if comparison is None else comparison.applied,
            in_order=None if comparison is None else comparison.exact,
            digest_equal=self.digest_equal,
            restarts=self.restarts,
            wall_s=round(self.wall_s, 2),
        )
