"""Retry around requests: what servers answer, one after another, and how often they are then asked."""

from __future__ import annotations

import random

import pytest
import trio

from tests.wire.scripted import Answer, scripted
from tinker_actors import errors
from tinker_actors.config import RetryConfig
from tinker_actors.flow.retry import Retry
from tinker_actors.types import Promise
from tinker_actors.wire.api import Api

STEADY = RetryConfig(jitter_factor=0.0)
GOOD = Answer({"request_id": "r"})


async def ask(*answers: Answer, config: RetryConfig = STEADY) -> tuple[Promise | errors.APIError, int, float]:
    """What came out, how many requests that took, and how many seconds."""
    async with scripted(*answers) as (api, script):
        start = trio.current_time()
        try:
            found = await _call(config, api)
        except errors.APIError as error:
            return error, len(script.asked), trio.current_time() - start
        return found, len(script.asked), trio.current_time() - start


async def _call(config: RetryConfig, api: Api) -> Promise:
    policy = Retry(config, rng=random.Random(1))
    return await policy.call(lambda: api.call("/optim_step", Promise, {}, purpose="train"))


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503, 504, 529, 599])
async def test_what_passes_is_asked_again_until_it_has(status: int, autojump_clock: trio.testing.MockClock):
    found, asked, _ = await ask(Answer(b"later", status), Answer({"detail": "later"}, status), GOOD)
    assert found == Promise(request_id="r")
    assert asked == 3


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after-ms": "2500"}, 2.5),
        ({"Retry-After-Ms": "2500"}, 2.5),
        ({"RETRY-AFTER": "7"}, 7.0),
        ({"retry-after": "7", "retry-after-ms": "250"}, 0.5),  # never sooner than by itself
    ],
)
async def test_the_server_says_when(headers: dict[str, str], seconds: float, autojump_clock: trio.testing.MockClock):
    found, asked, took = await ask(Answer({"detail": "slow down"}, 429, headers), GOOD)
    assert isinstance(found, Promise)
    assert asked == 2
    assert seconds <= took < seconds + 1.0


@pytest.mark.parametrize("name", ["x-should-retry", "X-Should-Retry"])
async def test_the_server_says_whether(name: str, autojump_clock: trio.testing.MockClock):
    found, asked, _ = await ask(Answer(b"no", 503, {name: "false"}), GOOD)
    assert (type(found), asked) == (errors.ServiceUnavailableError, 1)
    found, asked, _ = await ask(Answer({"detail": "yes"}, 400, {name: "true"}), GOOD)
    assert (found, asked) == (Promise(request_id="r"), 2)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422])
async def test_a_users_error_is_told_at_once(status: int, autojump_clock: trio.testing.MockClock):
    found, asked, _ = await ask(Answer({"detail": "yours"}, status), GOOD)
    assert isinstance(found, errors.APIStatusError)
    assert (found.status, asked) == (status, 1)


@pytest.mark.parametrize("retries", [1, 3])
async def test_so_many_retries_are_that_many_requests_and_one(retries: int, autojump_clock: trio.testing.MockClock):
    config = RetryConfig(max_retries=retries)
    found, asked, _ = await ask(Answer(b"broken", 500), config=config)
    assert (type(found), asked) == (errors.InternalServerError, retries + 1)


@pytest.mark.parametrize("status", [400, 500])
async def test_without_retries_each_error_is_one_request(status: int, autojump_clock: trio.testing.MockClock):
    found, asked, took = await ask(
        Answer({"detail": "no"}, status), GOOD, config=RetryConfig(enable_retry_logic=False)
    )
    assert isinstance(found, errors.APIStatusError)
    assert (found.status, asked) == (status, 1)
    assert took < 0.1
    # and nothing is held against the next
    assert (await ask(GOOD))[2] < 0.1


async def test_a_limit_of_one_lets_one_through_at_a_time_and_is_not_shared(autojump_clock: trio.testing.MockClock):
    one, other = (Retry(RetryConfig(max_connections=1)) for _ in range(2))
    ends: list[tuple[str, float]] = []

    async def hold() -> None:
        await trio.sleep(10.0)

    async def work(name: str, policy: Retry) -> None:
        await policy.call(hold)
        ends.append((name, round(trio.current_time() - start)))

    start = trio.current_time()
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(work, "one", one)
        nursery.start_soon(work, "other", other)
    assert sorted(ends) == [("one", 10), ("one", 20), ("one", 30), ("other", 10)]


@pytest.mark.parametrize(("status", "shown"), [(404, "HTTP 404"), (500, "HTTP 500")])
async def test_an_error_shows_its_status_and_words(status: int, shown: str, autojump_clock: trio.testing.MockClock):
    found, _, _ = await ask(Answer({"detail": "the words"}, status), config=RetryConfig(enable_retry_logic=False))
    assert shown in str(found)
    assert "the words" in str(found)
    assert "HTTP" not in str(errors.APIConnectionError("lost"))
