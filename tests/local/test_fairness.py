"""Models and samplers take turns, owner by owner, and who waits is told why."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
import trio

from supervision.testing import run_seeded
from tests.local.harness import Caller, Stage, datum, play, sample_body
from tinker_actors.local.owners import Owner
from tinker_actors.local.turns import Turns

MANY = 40


def done(stage: Stage, model_id: str) -> int:
    """How many operations of a model took effect."""
    return len(stage.service.applied(model_id))


async def fill(caller: Caller, model_id: str, count: int = MANY) -> None:
    """Queue operations that take 17 ms each."""
    data = tuple(datum(number) for number in range(60))
    async with trio.open_nursery() as nursery:
        for seq_id in range(1, count + 1):
            nursery.start_soon(caller.forward_backward, model_id, seq_id, data)


async def fill_sampler(caller: Caller, count: int) -> None:
    """Queue samples that take 4 ms each."""
    sampler = await caller.sampler(await caller.session())
    async with trio.open_nursery() as nursery:
        for seq_id in range(count):
            nursery.start_soon(caller.post, "/asample", sample_body(sampler, seq_id, num_samples=4))


@pytest.mark.parametrize("whose", ["the same owner's", "another owner's"])
def test_a_greedy_model_delays_a_modest_one_by_a_turn(whose: str) -> None:
    async def scenario(stage: Stage) -> None:
        greedy = stage.caller
        modest = greedy if whose == "the same owner's" else stage.other()
        first, second = await greedy.model(), await modest.model()
        await fill(greedy, first)
        for seq_id in (1, 2, 3):
            before = done(stage, first)
            assert before < MANY - 10
            await modest.result((await modest.optim_step(second, seq_id)).ok["request_id"])
            assert done(stage, first) - before <= 2

    play(scenario)


def test_an_owner_with_many_models_gets_no_more_than_one_with_one() -> None:
    async def scenario(stage: Stage) -> None:
        greedy, modest = stage.caller, stage.other()
        models = [await greedy.model() for _ in range(8)]
        one = await modest.model()
        async with trio.open_nursery() as nursery:
            for model_id in models:
                nursery.start_soon(fill, greedy, model_id, 6)
        last = (await modest.optim_step(one, 13)).ok["request_id"]
        await fill(modest, one, 12)
        before = [done(stage, model_id) for model_id in models]
        started = done(stage, one)
        assert sum(before) < 25
        assert started < 4
        await modest.result(last)
        after = [done(stage, model_id) for model_id in models]
        assert abs((sum(after) - sum(before)) - (13 - started)) <= 3
        # and the greedy owner's own models have had the same number of turns, by one
        assert max(after) - min(after) <= 1

    play(scenario)


@pytest.mark.parametrize("what", ["a sample", "an operation"])
def test_a_greedy_sampler_delays_others_by_a_turn(what: str) -> None:
    async def scenario(stage: Stage) -> None:
        greedy, modest = stage.caller, stage.other()
        session_id = await modest.session()
        mine, model_id = await modest.sampler(session_id), await modest.start_model(session_id)
        await fill_sampler(greedy, 320)
        waiting = len(stage.service.samples)
        assert waiting > 200
        if what == "a sample":
            await modest.sample(mine)
        else:
            await modest.result((await modest.optim_step(model_id, 1)).ok["request_id"])
        assert waiting - len(stage.service.samples) <= 2 * 64

    play(scenario)


async def state(caller: Caller, request_id: str) -> tuple[str, str]:
    answer = (await caller.poll(request_id)).ok
    assert answer["type"] == "try_again"
    return answer["queue_state"], answer["queue_state_reason"]


def test_who_waits_is_told_why() -> None:
    async def scenario(stage: Stage) -> None:
        caller, other = stage.caller, stage.other()
        first, second = await caller.model(), await other.model()
        data = tuple(datum(number) for number in range(1000))
        promises = [(await caller.forward_backward(first, seq_id, data)).ok["request_id"] for seq_id in (1, 2, 3)]
        assert await state(caller, promises[0]) == ("active", "the server works on it")
        assert await state(caller, promises[2]) == ("active", "2 operation(s) before it")
        waits = (await other.optim_step(second, 1)).ok["request_id"]
        behind = (await other.optim_step(second, 2)).ok["request_id"]
        turn = "waits for its turn: 1 other(s) have work"
        assert await state(other, waits) == ("paused_capacity", f"it is next; {turn}")
        assert await state(other, behind) == ("paused_capacity", f"1 operation(s) before it; {turn}")
        session_id = second.partition(":train:")[0]
        sample = (await other.post("/asample", sample_body(await other.sampler(session_id)))).ok["request_id"]
        turn = "waits for its turn: 2 other(s) have work"
        assert await state(other, sample) == ("paused_capacity", f"it is next; {turn}")
        late = (await other.optim_step(second, 4)).ok["request_id"]
        assert await state(other, late) == ("paused_capacity", "waits for seq_id 3, which has not arrived")

    play(scenario, poll_hold=0.0001)


def test_an_owner_beyond_its_rate_is_told_so_and_holds_up_nobody() -> None:
    async def scenario(stage: Stage) -> None:
        caller, other = stage.caller, stage.other()
        first, second = await caller.model(), await other.model()
        start = trio.current_time()
        promises = [(await caller.optim_step(first, seq_id)).ok["request_id"] for seq_id in range(1, 6)]
        kind, reason = await state(caller, promises[4])
        assert kind == "paused_rate_limit"
        assert "max_turns_per_second is 0.5" in reason
        await trio.sleep(start + 3.0 - trio.current_time())
        assert done(stage, first) == 2 or done(stage, first) == 1
        before = trio.current_time()
        await other.result((await other.optim_step(second, 1)).ok["request_id"])
        assert trio.current_time() - before < 1.0
        await caller.result(promises[4])
        assert 8.0 <= trio.current_time() - start <= 12.0

    play(scenario, max_turns_per_second=0.5, poll_hold=0.5)


def test_each_token_of_a_stream_is_a_turn() -> None:
    async def scenario(stage: Stage) -> None:
        caller = stage.caller
        sampler = await caller.sampler(await caller.session())
        ended: list[bytes] = []

        async def stream() -> None:
            ended.append(
                (await caller.post("/stream_sample", sample_body(sampler) | {"prompt_logprobs": False})).content
            )

        async with trio.open_nursery() as nursery, stage.service.turns.turn(Owner("another"), "one"):
            nursery.start_soon(stream)
            await trio.sleep(10.0)
            assert ended == []
        assert ended[0].count(b"data:") == 4

    play(scenario)


def test_samples_beyond_an_owners_share_are_pushed_back() -> None:
    async def scenario(stage: Stage) -> None:
        caller, other = stage.caller, stage.other()
        sampler = await caller.sampler(await caller.session())
        await caller.sample(sampler, 1000)
        await fill_sampler(caller, 300)
        assert len(stage.service.samples) == 100
        answer = await caller.post("/asample", sample_body(sampler, 0))
        assert answer.status == 429
        assert "100 samples of yours are waiting already (max_queued_samples_per_owner)" in answer.detail
        mine = await other.sampler(await other.session())
        assert len((await other.sample(mine))["sequences"]) == 1

    play(scenario, max_queued_samples_per_owner=100)


def schedule(seed: int, parties: dict[str, list[str]]) -> list[tuple[str, str]]:
    """In which order parties that never stop wanting are served; some are cancelled while they wait."""
    served: list[tuple[str, str]] = []

    async def party(turns: Turns, owner: str, name: str, rng: random.Random) -> None:
        while len(served) < 300:
            with trio.move_on_after(rng.choice((3.0, 1000.0))):
                async with turns.turn(Owner(owner), name):
                    served.append((owner, name))
                    await trio.sleep(rng.random())

    async def main() -> None:
        rng, turns = random.Random(seed), Turns(None)
        async with trio.open_nursery() as nursery:
            for owner, names in parties.items():
                for name in names:
                    nursery.start_soon(party, turns, owner, name, random.Random(rng.random()))
        # nobody is left waiting or running, and the next one need not wait
        with trio.fail_after(0.001):
            async with turns.turn(Owner("x"), "y"):
                assert turns.progress(Owner("x"), "y") is None

    run_seeded(main, seed=seed)
    return served


@pytest.mark.parametrize("seed", range(5))
def test_no_owner_is_served_twice_while_another_waits_however_often_they_leave(seed: int) -> None:
    served = schedule(seed, {"a": ["a1"], "b": ["b1", "b2", "b3", "b4", "b5"], "c": ["c1", "c2"]})
    counts = {owner: sum(one == owner for one, _ in served) for owner in "abc"}
    assert min(counts.values()) > 60
    for owner, names in (("b", 5), ("c", 2)):
        each = [sum(one == (owner, f"{owner}{number}") for one in served) for number in range(1, names + 1)]
        assert min(each) > counts[owner] / names / 2


def test_two_turns_never_overlap() -> None:
    running: list[int] = []

    async def one(turns: Turns, name: str, sleep: Callable[[], float]) -> None:
        for _ in range(20):
            async with turns.turn(Owner("o"), name):
                running.append(1)
                assert len(running) == 1
                await trio.sleep(sleep())
                running.pop()

    async def main() -> None:
        turns, rng = Turns(None), random.Random(0)
        async with trio.open_nursery() as nursery:
            for number in range(5):
                nursery.start_soon(one, turns, str(number), rng.random)

    run_seeded(main, seed=0)


def test_what_there_is_to_know_in_the_queue() -> None:
    async def scenario(stage: Stage) -> None:
        caller = stage.caller
        model_id = await caller.model()
        await fill(caller, model_id)
        shown = (await caller.get("/local/queue")).ok["models"][0]
        seq_id = MANY - shown["queued"]
        assert shown["in_hand"] == [f"forward_backward (seq_id {seq_id})"]
        assert 1 <= seq_id < 10

    play(scenario)
