"""Who waits for what one tries at, round after round, and when an outage is news for whom."""

from __future__ import annotations

from tinker_actors.errors import APIConnectionError
from tinker_actors.flow.patience import OutOfPatience
from tinker_actors.flow.reaction import Reaction
from tinker_actors.flow.rounds import Rounds


def silence(lasted: float = 1.0) -> OutOfPatience:
    return OutOfPatience(Reaction.REPEAT, APIConnectionError("nobody answers"), lasted)


def test_all_that_come_before_the_first_round_ends_are_told_at_its_end():
    rounds = Rounds()
    early = rounds.due
    rounds.begin()
    late = rounds.due
    assert rounds.outage(early) is rounds.outage(late) is None
    rounds.fail(gone := silence())
    assert rounds.outage(early) is rounds.outage(late) is gone


def test_who_tries_may_crash_and_begin_anew():
    rounds = Rounds()
    rounds.begin()
    early = rounds.due
    rounds.begin()
    late = rounds.due
    rounds.fail(gone := silence())
    assert rounds.outage(early) is rounds.outage(late) is gone


def test_who_comes_later_is_told_of_no_round_that_had_begun_before():
    rounds = Rounds()
    rounds.begin()
    rounds.fail(silence(1.0))
    between = rounds.due
    assert rounds.outage(between) is None
    rounds.begin()
    within = rounds.due
    rounds.fail(second := silence(2.0))
    assert rounds.outage(between) is second
    assert rounds.outage(within) is None
    rounds.begin()
    rounds.fail(third := silence(3.0))
    assert rounds.outage(within) is third


def test_a_round_that_fails_is_heard_of():
    rounds = Rounds()
    rounds.begin()
    seen = rounds.failed.value
    rounds.fail(silence())
    assert rounds.failed.value > seen
