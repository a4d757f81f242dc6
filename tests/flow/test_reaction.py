"""What an answer means where that depends on what the server does with a repeated request."""

from __future__ import annotations

import pytest

from tinker_actors.errors import APIConnectionError, APIError, APIResponseError, status_error
from tinker_actors.flow.reaction import Reaction, by_class, by_order, while_submitting
from tinker_actors.server_class import ServerClass

DEDUP, ORDERED, NONE = ServerClass


@pytest.mark.parametrize("server_class", [DEDUP, NONE, None])
@pytest.mark.parametrize("expected", [None, 3, 4, 5])
def test_a_409_proves_something_where_the_server_keeps_the_order_only(
    server_class: ServerClass | None, expected: int | None
):
    conflict = status_error(409, "no", expected_seq_id=expected)
    assert by_order(Reaction.STOP, conflict, server_class, 4, doubted=False) is Reaction.STOP


@pytest.mark.parametrize(
    ("expected", "doubted", "reaction"),
    [
        (5, False, Reaction.ARRIVED),
        (5, True, Reaction.ARRIVED),
        (3, False, Reaction.LOST),
        (None, False, Reaction.STOP),
        (None, True, Reaction.UNKNOWN),
    ],
)
def test_what_a_409_proves_of_a_server_that_keeps_the_order(expected: int | None, doubted: bool, reaction: Reaction):
    conflict = status_error(409, "no", expected_seq_id=expected)
    assert by_class(Reaction.STOP, conflict, ORDERED, 4, doubted=doubted) is reaction


@pytest.mark.parametrize(
    ("error", "arrived"),
    [
        (APIConnectionError("refused", sent=False), False),
        (APIConnectionError("reset", sent=True), True),
        (APIResponseError("not readable"), True),
        *((status_error(status, "no"), False) for status in (401, 402, 429)),
        *((status_error(status, "no"), True) for status in (408, 500, 502, 503)),
    ],
    ids=str,
)
def test_what_may_have_arrived_is_unknown_where_it_would_be_done_again(error: APIError, arrived: bool):
    usual = while_submitting(error)
    assert by_class(usual, error, NONE, 4, doubted=False) is (Reaction.UNKNOWN if arrived else usual)
    assert by_class(usual, error, NONE, 4, doubted=True) is Reaction.UNKNOWN
    for other in (DEDUP, ORDERED, None):
        assert by_class(usual, error, other, 4, doubted=True) is usual
