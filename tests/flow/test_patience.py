"""Patience: how often and for how long one request is tried."""

import itertools
import random

import pytest
import trio

from tinker_actors.errors import APIConnectionError, APIError, APIResponseError, APITimeoutError, status_error
from tinker_actors.flow.patience import OutOfPatience, Patience
from tinker_actors.flow.reaction import (
    Reaction,
    may_have_arrived,
    while_polling,
    while_polling_save,
    while_saving,
    while_submitting,
)

REFUSED = APIConnectionError("refused", sent=False)


def patience(outage: float = 60.0, billing: float = 3600.0) -> Patience:
    return Patience(random.Random(1), outage_bound=outage, billing_bound=billing)


async def tries_until_out(errors: list[APIError], react=while_submitting, **bounds: float):
    """The times of the tries of a request that meets ``errors``, the last one again and again."""
    times: list[float] = []

    async def attempt() -> None:
        times.append(trio.current_time())
        raise errors[min(len(times) - 1, len(errors) - 1)]

    with pytest.raises(OutOfPatience) as caught:
        await patience(**bounds).persist(attempt, react, lambda reason: None)
    return [time - times[0] for time in times], caught.value


async def test_an_outage_ends_at_its_bound_with_a_last_try(autojump_clock):
    times, gone = await tries_until_out([REFUSED], outage=60.0)

    assert times[-1] == pytest.approx(60.0)
    assert gone.reaction is Reaction.REPEAT
    assert gone.lasted == pytest.approx(60.0)
    assert gone.error is REFUSED


async def test_delays_double_up_to_ten_seconds(autojump_clock):
    times, _ = await tries_until_out([REFUSED], outage=60.0)
    delays = [b - a for a, b in itertools.pairwise(times)]

    for n, delay in enumerate(delays[:-1]):
        longest = min(0.5 * 2**n, 10.0)
        assert 0.75 * longest <= delay <= longest


async def test_a_usable_answer_starts_the_outage_clock_anew(autojump_clock):
    keeper = patience(outage=60.0)
    for _ in range(10):
        await keeper.after(Reaction.REPEAT, REFUSED, lambda reason: None)
        keeper.succeeded()
    assert keeper.tries == 0


async def test_retry_after_is_a_lower_bound_and_no_outage(autojump_clock):
    asked = status_error(429, "slow down", retry_after=120.0)
    start = trio.current_time()
    keeper = patience(outage=60.0)
    for _ in range(3):
        await keeper.after(Reaction.WAIT, asked, lambda reason: None)
    assert trio.current_time() - start >= 360.0


async def test_billing_pauses_for_its_bound(autojump_clock):
    times, gone = await tries_until_out([status_error(402, "no credit")], billing=100.0)
    assert gone.reaction is Reaction.PAUSE
    assert times[-1] == pytest.approx(100.0)


async def test_a_credential_is_renewed_once(autojump_clock):
    times, gone = await tries_until_out([status_error(401, "expired")])
    assert len(times) == 2
    assert gone.reaction is Reaction.RENEW


async def test_a_poll_rechecks_three_times_what_a_proxy_may_have_said(autojump_clock):
    times, gone = await tries_until_out([status_error(400, "")], while_polling)
    assert len(times) == 4
    assert gone.reaction is Reaction.RECHECK


@pytest.mark.parametrize("status", [403, 400, 404, 410, 422])
async def test_final_statuses_are_tried_once_when_submitting(status: int, autojump_clock):
    times, _ = await tries_until_out([status_error(status, "no")])
    assert times == [0.0]


async def test_the_reason_names_try_delay_and_error(autojump_clock):
    reasons: list[str] = []
    keeper = patience()
    await keeper.after(Reaction.REPEAT, status_error(503, "busy"), reasons.append)
    assert reasons[0].startswith("try 2 in 0.")
    assert reasons[0].endswith("after HTTP 503")


@pytest.mark.parametrize(
    ("status", "submitting", "polling"),
    [
        (400, Reaction.FAIL, Reaction.RECHECK),
        (401, Reaction.RENEW, Reaction.RENEW),
        (402, Reaction.PAUSE, Reaction.PAUSE),
        (403, Reaction.STOP, Reaction.STOP),
        (404, Reaction.LOST, Reaction.LOST),
        (408, Reaction.REPEAT, Reaction.REPEAT),
        (409, Reaction.STOP, Reaction.STOP),
        (410, Reaction.LOST, Reaction.LOST),
        (413, Reaction.FAIL, Reaction.RECHECK),
        (422, Reaction.FAIL, Reaction.RECHECK),
        (429, Reaction.WAIT, Reaction.WAIT),
        (500, Reaction.REPEAT, Reaction.REPEAT),
        (503, Reaction.REPEAT, Reaction.REPEAT),
    ],
)
def test_the_table(status: int, submitting: Reaction, polling: Reaction):
    error = status_error(status, "")
    assert (while_submitting(error), while_polling(error)) == (submitting, polling)


def test_a_409_of_a_save_is_of_its_name_unless_it_names_a_seq_id():
    exists, out_of_turn = status_error(409, "a exists"), status_error(409, "expected 4", expected_seq_id=4)
    assert (while_saving(exists), while_polling_save(exists)) == (Reaction.FAIL, Reaction.FAIL)
    assert (while_saving(out_of_turn), while_polling_save(out_of_turn)) == (Reaction.STOP, Reaction.STOP)
    for status in (400, 404, 429, 503):
        error = status_error(status, "")
        assert while_saving(error) is while_submitting(error)
        assert while_polling_save(error) is while_polling(error)


@pytest.mark.parametrize(
    ("error", "arrived"),
    [
        (APIConnectionError("lost"), True),
        (APIConnectionError("refused", sent=False), False),
        (APITimeoutError("silence"), True),
        (APITimeoutError("no connection", sent=False), False),
        (APIResponseError("nonsense"), True),
        *((status_error(status, ""), True) for status in (408, 500, 502, 503, 504)),
        *((status_error(status, ""), False) for status in (400, 401, 402, 403, 404, 409, 413, 422, 429)),
    ],
    ids=str,
)
def test_whether_a_submission_may_have_arrived(error: APIError, arrived: bool):
    assert may_have_arrived(error) is arrived
