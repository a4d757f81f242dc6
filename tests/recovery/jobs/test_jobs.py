"""Jobs in simulation: what is resumed, what stops them, and what is refused."""

from __future__ import annotations

import json
import logging
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trio

from tests.clients.scenario import batch
from tests.recovery.jobs.data import STEP, Deck
from tests.recovery.jobs.lives import FOLDER, Died, Lives, in_lives, train
from tinker_actors.config import CheckpointPolicy
from tinker_actors.errors import (
    BadRequestError,
    ClosedError,
    DiskError,
    DiskFull,
    InvalidInput,
    JobChanged,
    JobError,
    JobInUse,
    RequestFailedError,
)
from tinker_actors.local.catalog import Catalog
from tinker_actors.local.owners import Owner
from tinker_actors.metrics import Price
from tinker_actors.recovery.jobs import Budget, Job, JobFolder, ResumeRecord, list_jobs
from tinker_actors.runtime import Runtime
from tinker_actors.testing.operations import BASE_MODEL
from tinker_actors.types import SamplingParams

PRICES = {BASE_MODEL: Price(trained=1_000_000.0, prompted=0.0, sampled=0.0)}


async def record(lives: Lives, name: str = "job") -> ResumeRecord:
    found = await JobFolder(lives.disk, FOLDER, name).load()
    assert found is not None
    return found


def job(runtime: Runtime, **options: Any) -> Any:
    """The block of a job."""
    return runtime.job(
        options.pop("name", "job"),
        **{"base_model": BASE_MODEL, "rank": 2, "seed": 7, "steps": 4, "folder": FOLDER, "catch_signals": False}
        | options,
    )


async def one_step(job: Job, seed: int = 1) -> None:
    await job.client.forward_backward(batch(seed))
    await (await job.client.optim_step(STEP))


def test_a_job_that_is_done_says_so_and_does_nothing(caplog: pytest.LogCaptureFixture):
    async def story(lives: Lives) -> Any:
        first = await lives.live(lambda runtime: train(lives, runtime))
        rows, saves = await lives.rows(), len(lives.server.service.catalog.checkpoints(Owner("somebody")))
        second = await lives.live(lambda runtime: train(lives, runtime))
        assert await lives.rows() == rows
        assert len(lives.server.service.catalog.checkpoints(Owner("somebody"))) == saves
        found = await record(lives)
        return first, second, found.status, found.step, found.starts

    caplog.set_level(logging.INFO)
    first, second, *rest = in_lives(story)
    assert first == second
    assert first[1] is True
    assert rest == ["done", 8, 2]
    assert "the job job is done already, with 8 steps" in caplog.text


def test_a_job_that_is_done_goes_on_when_it_is_to_have_more_steps():
    async def longer(lives: Lives) -> Any:
        await lives.live(lambda runtime: train(lives, runtime, steps=5))
        return await lives.live(lambda runtime: train(lives, runtime, steps=8)), await lives.rows()

    async def whole(lives: Lives) -> Any:
        return await lives.live(lambda runtime: train(lives, runtime, steps=8)), await lives.rows()

    assert in_lives(longer) == in_lives(whole)


def test_a_stop_ends_the_loop_with_a_checkpoint_and_the_next_run_goes_on(caplog: pytest.LogCaptureFixture):
    async def stopped(lives: Lives) -> Any:
        async def stop(job: Job, step: int) -> None:
            if step == 5:
                job.stop("enough for today")
                job.stop("another reason")

        first = await lives.live(lambda runtime: train(lives, runtime, until=stop, policy=CheckpointPolicy()))
        assert first[1] is False
        found = await record(lives)
        assert (found.status, found.reason, found.step) == ("stopped", "enough for today", 5)
        return await lives.live(lambda runtime: train(lives, runtime)), await lives.rows()

    async def whole(lives: Lives) -> Any:
        return await lives.live(lambda runtime: train(lives, runtime)), await lives.rows()

    caplog.set_level(logging.INFO)
    assert in_lives(stopped) == in_lives(whole)
    assert "The job job has stopped after step 5 of 8 (enough for today). To go on, run the program again, or: " in (
        caplog.text
    )
    assert "tinker-actors job resume job --folder /jobs" in caplog.text


@pytest.mark.parametrize(
    ("budget", "words"),
    [
        (Budget(tokens=30), "its budget of 30 tokens is used up"),
        (Budget(cost=30.0, prices=PRICES), "its budget of 30 is used up"),
    ],
)
def test_a_budget_stops_it_also_over_several_lives(budget: Budget, words: str):
    async def story(lives: Lives) -> Any:
        await lives.live(lambda runtime: train(lives, runtime, budget=budget, ahead=0))
        first = await record(lives)
        assert first.point is not None
        await lives.live(lambda runtime: train(lives, runtime, budget=budget, ahead=0))
        return first, await record(lives)

    first, second = in_lives(story)
    assert first.status == "stopped"
    assert words in first.reason
    assert 0 < first.step < 8
    assert first.point.usage[BASE_MODEL].trained >= 30
    assert second.step == first.step, "nothing was left of it"


def test_samples_count_for_the_budget_and_go_on_as_they_would_have():
    async def play(lives: Lives, runtime: Runtime, stop_at: int | None) -> list[Any]:
        seen: list[Any] = []
        async with job(runtime, steps=4, checkpoints=CheckpointPolicy(every_steps=1)) as run:
            for step in run.steps():
                sampler = await run.client.save_weights_and_get_sampling_client()
                answer = await sampler.sample(batch(1)[0].model_input, 1, SamplingParams(max_tokens=4))
                seen.append(answer.sequences[0].tokens.tolist())
                await one_step(run, step)
                run.log({"n": step})
                if step == stop_at:
                    run.stop()
            assert run.usage()[BASE_MODEL].sampled == 4 * run.step
            assert run.cost(PRICES) == run.usage()[BASE_MODEL].trained
        return seen

    async def story(lives: Lives) -> Any:
        first = await lives.live(lambda runtime: play(lives, runtime, 2))
        return first + await lives.live(lambda runtime: play(lives, runtime, None))

    async def whole(lives: Lives) -> Any:
        return await lives.live(lambda runtime: play(lives, runtime, None))

    assert in_lives(story) == in_lives(whole)


def test_what_a_crash_costs_is_told(caplog: pytest.LogCaptureFixture):
    seen: list[str] = []

    async def look(job: Job, step: int) -> None:
        await trio.sleep(1.0)
        assert job.crash_costs == step - 1 - job.safe_step
        seen.extend(str(row) for row in job._recorder._entry.snapshot().reason.splitlines())

    async def story(lives: Lives) -> None:
        await lives.live(
            lambda runtime: train(lives, runtime, until=look, ahead=0, policy=CheckpointPolicy(every_steps=3))
        )

    caplog.set_level(logging.INFO)
    in_lives(story)
    assert seen[:5] == [
        "step 0 of 8; a crash now costs 0 steps",
        "step 1 of 8; a crash now costs 1 step",
        "step 2 of 8; a crash now costs 2 steps",
        "step 3 of 8; a crash now costs 0 steps",
        "step 4 of 8; a crash now costs 1 step",
    ]
    assert "the job job is safe up to step 3; a crash now costs" in caplog.text


def test_it_is_a_row_of_what_is_pending():
    async def story(lives: Lives) -> None:
        async def work(runtime: Runtime) -> None:
            async with job(runtime):
                (row,) = [row for row in runtime.pending() if row.kind == "job"]
                assert (row.name, row.state, row.expected) == ("job job", "training", True)
            assert not [row for row in runtime.pending() if row.kind == "job"]

        await lives.live(work)

    in_lives(story)


def test_another_process_is_refused_and_touches_nothing():
    async def story(lives: Lives) -> None:
        async def work(runtime: Runtime) -> None:
            async with job(runtime) as run:
                await one_step(run)
                before = await record(lives)
                with pytest.raises(JobInUse, match="is being run by another process, which holds /jobs/job/lock"):
                    async with job(runtime):
                        pass
                assert await record(lives) == before
                async with job(runtime, name="other"):
                    pass
            async with job(runtime):
                pass

        await lives.live(work)

    in_lives(story)


def test_what_was_begun_with_other_values_is_refused_by_name():
    async def story(lives: Lives) -> None:
        async def work(runtime: Runtime) -> None:
            async with job(runtime, steps=1) as run:
                for step in run.steps():
                    await one_step(run, step)
            before = await record(lives)
            with pytest.raises(JobChanged) as caught:
                async with job(runtime, rank=4, seed=8, train_mlp=False):
                    pass
            told = str(caught.value)
            assert "rank is 4, was 2, seed is 8, was 7, train_mlp is False, was True" in told
            assert "another name; or remove /jobs/job" in told
            assert await record(lives) == before
            async with job(runtime, seed=None) as run:
                assert run.seed == 7

        await lives.live(work)

    in_lives(story)


def test_values_that_the_server_refused_can_be_corrected(caplog: pytest.LogCaptureFixture):
    async def story(lives: Lives) -> None:
        async def work(runtime: Runtime) -> None:
            with pytest.raises(BadRequestError, match=r"lora_config\.rank: 5000"):
                async with job(runtime, rank=5000):
                    pass
            async with job(runtime) as run:
                assert (await run.client.get_info()).lora_rank == 2
                for step in run.steps():
                    await one_step(run, step)
                    run.log({"n": step})
            found = await record(lives)
            assert (found.config.rank, found.starts, found.step) == (2, 2, 4)

        await lives.live(work)

    in_lives(story)
    assert "the job job has trained nothing yet, and takes other values: rank is 2, was 5000" in caplog.text


def test_values_stay_once_there_is_a_row():
    async def story(lives: Lives) -> None:
        async def work(runtime: Runtime) -> None:
            with pytest.raises(Died):
                async with job(runtime) as run:
                    for step in run.steps():
                        await one_step(run, step)
                        run.log({"n": step})
                        if step == 2:
                            raise Died
            assert (await record(lives)).point is None
            with pytest.raises(JobChanged, match="rank is 4, was 2"):
                async with job(runtime, rank=4):
                    pass

        await lives.live(work)

    in_lives(story)


def test_a_seed_is_drawn_once_and_kept():
    async def story(lives: Lives) -> list[Any]:
        async def work(runtime: Runtime) -> Any:
            async with job(runtime, seed=None) as run:
                return run.seed, run.rng.random()

        return [await lives.live(work) for _ in range(2)]

    (first, drawn), (second, again) = in_lives(story)
    assert first == second
    assert drawn == again, "no step was done, so nothing was drawn"


def test_a_checkpoint_that_is_gone_is_told_with_what_to_do():
    async def story(lives: Lives) -> None:
        await lives.live(lambda runtime: train(lives, runtime, steps=4))
        found = await record(lives)
        assert found.point is not None
        lives.server.service.catalog.remove(Owner("somebody"), found.point.checkpoint)
        with pytest.raises(JobError, match=r"can't go on after step 4: its checkpoint tinker://.* remove /jobs/job"):
            await lives.live(lambda runtime: train(lives, runtime, steps=8))
        assert (await record(lives)).point == found.point

    in_lives(story)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is no resume record"),
        (b"{", "is no resume record"),
        (b"[]", "is no resume record"),
        (b'{"format":2}', "of format 2, and this version reads 1"),
        (b'{"format":1,"name":3}', "is no resume record"),
    ],
)
def test_a_record_that_is_none_is_refused(data: bytes, words: str):
    async def story(lives: Lives) -> None:
        await lives.live(lambda runtime: train(lives, runtime, steps=2))
        await lives.disk.replace(FOLDER / "job" / "record.json", data)
        with pytest.raises(JobError, match=words):
            await lives.live(lambda runtime: train(lives, runtime, steps=2))

    in_lives(story)


def test_rows_that_are_missing_are_told():
    async def story(lives: Lives) -> None:
        await lives.live(lambda runtime: train(lives, runtime, steps=2))
        await lives.disk.truncate(FOLDER / "job" / "metrics.jsonl", 5)
        with pytest.raises(JobError, match="rows up to step 2 were written"):
            await lives.live(lambda runtime: train(lives, runtime, steps=3))

    in_lives(story)


def test_a_program_that_fails_says_so_and_goes_on_from_the_record_before():
    class Bug(Exception):
        pass

    async def story(lives: Lives) -> Any:
        async def fail(job: Job, step: int) -> None:
            await trio.sleep(1.0)
            if step == 5:
                raise Bug("tml-secret-of-mine broke")

        with pytest.raises(Exception) as caught:
            await lives.live(lambda runtime: train(lives, runtime, until=fail, ahead=0))
        assert "Bug" in repr(caught.value)
        found = await record(lives)
        assert (found.status, found.reason, found.step) == ("failed", "Bug: [hidden] broke", 4)
        return await lives.live(lambda runtime: train(lives, runtime)), await lives.rows()

    async def whole(lives: Lives) -> Any:
        return await lives.live(lambda runtime: train(lives, runtime)), await lives.rows()

    assert in_lives(story) == in_lives(whole)


def test_a_loop_that_is_left_within_a_step_goes_on_before_it(caplog: pytest.LogCaptureFixture):
    async def story(lives: Lives) -> None:
        async def work(runtime: Runtime) -> None:
            async with job(runtime, checkpoints=CheckpointPolicy(every_steps=1)) as run:
                for step in run.steps():
                    await run.client.forward_backward(batch(step))
                    if step == 3:
                        break
                    await (await run.client.optim_step(STEP))
                    run.log({"n": step})

        await lives.live(work)
        found = await record(lives)
        assert (found.status, found.reason, found.step) == ("stopped", "its loop was left within step 3", 2)

    in_lives(story)
    assert "has stopped after step 2 of 4 (its loop was left within step 3)" in caplog.text


def test_without_a_number_of_steps_it_is_done_when_the_program_says_so():
    async def story(lives: Lives) -> None:
        async def work(runtime: Runtime) -> Any:
            async with job(runtime, steps=None) as run:
                for step in run.steps():
                    if step == 4:
                        break
                    await one_step(run, step)
            return run.done, run.step

        assert await lives.live(work) == (True, 3)
        assert (await record(lives)).status == "done"
        assert await lives.live(work) == (True, 3)

    in_lives(story)


def test_several_updates_a_step_are_one_step():
    async def play(lives: Lives, runtime: Runtime, die_at: int | None) -> str:
        async with job(runtime, steps=4, updates_per_step=2, checkpoints=CheckpointPolicy(every_steps=1)) as run:
            for step in run.steps():
                for half in range(2):
                    await one_step(run, run.rng.randrange(100))
                    await trio.sleep(1.0)
                    if step == die_at and half == 0:
                        lives.die()
                        await trio.sleep(1.0)
                run.log({"n": step})
            digest = await lives.digest(run)
            assert run.client.checkpoints.step == 8
        return digest

    async def story(lives: Lives) -> Any:
        with pytest.raises(Died):
            await lives.live(lambda runtime: play(lives, runtime, 3))
        assert (await record(lives)).step == 2
        return await lives.live(lambda runtime: play(lives, runtime, None)), await lives.rows()

    async def whole(lives: Lives) -> Any:
        return await lives.live(lambda runtime: play(lives, runtime, None)), await lives.rows()

    assert in_lives(story) == in_lives(whole)


def test_more_updates_than_were_said_are_refused_and_nothing_goes_on_there():
    async def story(lives: Lives) -> None:
        async def work(runtime: Runtime) -> None:
            async with job(runtime, checkpoints=CheckpointPolicy(every_steps=1)) as run:
                steps = run.steps()
                next(steps)
                await one_step(run)
                await one_step(run)
                with pytest.raises(InvalidInput, match="made 2 optim_steps, and the job has updates_per_step=1"):
                    next(steps)
                run.log({"n": 1})
                await trio.sleep(1.0)
                assert run.safe_step == 0

        await lives.live(work)

    in_lives(story)


def test_a_save_of_the_programs_own_is_a_place_to_go_on_from_between_steps_only():
    async def story(lives: Lives) -> None:
        async def work(runtime: Runtime) -> None:
            async with job(runtime, checkpoints=CheckpointPolicy()) as run:
                for step in run.steps():
                    with pytest.raises(InvalidInput, match="was called in step"):
                        run.save()
                    await run.client.forward_backward(batch(step))
                    await (await run.client.optim_step(STEP))
                    run.log({"n": step})
                    if step == 2:
                        await run.save()
                        await trio.sleep(1.0)
                        assert run.safe_step == 2
            with pytest.raises(ClosedError, match="next_step was not done: the block of the job job was left"):
                run.next_step()

        await lives.live(work)

    in_lives(story)


def test_a_record_waits_for_its_row_and_not_for_ever():
    async def story(lives: Lives) -> None:
        async def work(runtime: Runtime) -> None:
            async with job(runtime, steps=40, checkpoints=CheckpointPolicy(every_steps=3)) as run:
                for step in run.steps():
                    await one_step(run, step)
                    await trio.sleep(0.2)
                    if step == 8:
                        assert run.safe_step == 0, "the row of step 3 may come"
                        run.log({"n": 4}, step=4)
                        await trio.sleep(0.2)
                        assert run.safe_step == 3
                    if step >= 25:
                        assert run.safe_step >= 6, "no row of step 6 has come within 16 steps"

        await lives.live(work)

    in_lives(story)


def test_rows_come_once_and_in_order():
    async def story(lives: Lives) -> list[bytes]:
        async def work(runtime: Runtime) -> None:
            async with job(runtime, checkpoints=CheckpointPolicy(best_metric="loss", keep_best=1)) as run:
                with pytest.raises(InvalidInput, match="has not begun"):
                    run.log({"loss": 1.0}, step=1)
                for step in run.steps():
                    await one_step(run, step)
                    run.log({"loss": np.float32(0.5), "n": step, "text": "é", "flag": True, "nan": float("nan")})
                    for metrics in ({"step": 1}, {1: 2}, {"list": []}, [1], {"loss": "low"}):
                        with pytest.raises(InvalidInput, match="metrics"):
                            run.log(metrics)
                    with pytest.raises(InvalidInput, match="is there already"):
                        run.log({"loss": 1.0})
                    break

        await lives.live(work)
        return await lives.rows()

    (row,) = in_lives(story)
    assert json.loads(row) == {"step": 1, "loss": 0.5, "n": 1, "text": "é", "flag": True, "nan": "nan"}


def test_all_kinds_of_what_is_tracked_come_back():
    class Loader:
        def __init__(self) -> None:
            self.at = 0

        def state_dict(self) -> dict[str, int]:
            return {"at": self.at}

        def load_state_dict(self, state: dict[str, int]) -> None:
            self.at = state["at"]

    async def story(lives: Lives) -> None:
        async def work(runtime: Runtime) -> Any:
            async with job(runtime) as run:
                loader, own = run.track("loader", Loader()), run.track("own", random.Random(1))
                twister = run.track("mt", np.random.Generator(np.random.MT19937(3)))
                first = [loader.at, own.random(), twister.random(), run.rng.random(), run.generator.random()]
                first.append(run.position)
                for step in run.steps():
                    loader.at += 3
                    run.position = {"file": "a", "line": step}
                    await one_step(run, step)
                    run.stop()
                run.log({})
                after = [loader.at, *[one.random() for one in (own, twister, run.rng, run.generator)], run.position]
            return first, after

        async def again(runtime: Runtime) -> Any:
            async with job(runtime) as run:
                loader, own = run.track("loader", Loader()), run.track("own", random.Random(1))
                twister = run.track("mt", np.random.Generator(np.random.MT19937(3)))
                return [
                    *(loader.at, own.random(), twister.random(), run.rng.random(), run.generator.random()),
                    run.position,
                ]

        first, after = await lives.live(work)
        got = await lives.live(again)
        assert first[0] == 0
        assert first[-1] == 0
        assert got[0] == 3
        assert got[-1] == {"file": "a", "line": 1}
        # what is drawn after the last step and before the end of the block is drawn: the record is made there
        assert not {*got[1:5]} & {*first[1:5], *after[1:5]}

    in_lives(story)


@pytest.mark.parametrize(("capture", "early"), [("update", True), ("step", True), ("step", False), ("update", False)])
def test_what_is_drawn_after_the_update_counts_as_the_program_says(
    capture: str, early: bool, caplog: pytest.LogCaptureFixture
):
    """``early``: drawn ahead for the next step, and drawn anew by who resumes; otherwise for the step itself."""

    async def play(lives: Lives, runtime: Runtime, die_at: int | None) -> None:
        async with job(runtime, capture=capture, checkpoints=CheckpointPolicy(every_steps=1)) as run:
            ahead = run.rng.random() if early else 0.0
            for step in run.steps():
                await one_step(run, step)
                drawn = run.rng.random()
                run.log({"drawn": ahead if early else drawn})
                ahead = drawn
                await trio.sleep(1.0)
                if step == die_at:
                    lives.die()
                    await trio.sleep(1.0)

    async def story(lives: Lives) -> Any:
        with pytest.raises(Died):
            await lives.live(lambda runtime: play(lives, runtime, 3))
        await lives.live(lambda runtime: play(lives, runtime, None))
        return await lives.rows()

    async def whole(lives: Lives) -> Any:
        await lives.live(lambda runtime: play(lives, runtime, None))
        return await lives.rows()

    assert (in_lives(story) == in_lives(whole)) == ((capture == "update") == early)
    assert ("has changed in step 1 after its optim_step" in caplog.text) == (capture == "update")


def test_what_can_not_be_tracked_is_refused():
    class Sets:
        def get_state(self) -> Any:
            return {1, 2}

        def set_state(self, state: Any) -> None: ...

    class Picky(Deck):
        def set_state(self, state: Any) -> None:
            raise ValueError("no")

    async def story(lives: Lives) -> None:
        async def work(runtime: Runtime) -> None:
            async with job(runtime) as run:
                with pytest.raises(InvalidInput, match=r"track\('x'\): is of type int, whose state is not known"):
                    run.track("x", 3)
                with pytest.raises(JobError, match="'sets' can't be kept"):
                    run.track("sets", Sets())
                run.track("deck", Deck(3))
                with pytest.raises(InvalidInput, match="'deck' is tracked already"):
                    run.track("deck", Deck(3))
                with pytest.raises(InvalidInput, match="name"):
                    run.track("", Deck(3))
                with pytest.raises(InvalidInput, match="position"):
                    run.position = {1, 2}
                for step in run.steps():
                    await one_step(run, step)
                    run.stop()

        async def again(runtime: Runtime) -> None:
            async with job(runtime) as run:
                with pytest.raises(JobError, match="'deck' does not take back the state that it had: no"):
                    run.track("deck", Picky(3))

        await lives.live(work)
        await lives.live(again)

    in_lives(story)


def test_what_is_tracked_no_more_is_told_and_kept(caplog: pytest.LogCaptureFixture):
    async def story(lives: Lives) -> None:
        async def with_deck(runtime: Runtime, deck: bool) -> Any:
            async with job(runtime) as run:
                found = run.track("deck", Deck(3)) if deck else None
                for step in run.steps():
                    if found is not None:
                        found.draw(run.rng, 1)
                    await one_step(run, step)
                    run.stop()
                return None if found is None else found.place

        await lives.live(lambda runtime: with_deck(runtime, True))
        await lives.live(lambda runtime: with_deck(runtime, False))
        assert await lives.live(lambda runtime: with_deck(runtime, True)) == 2

    in_lives(story)
    assert caplog.text.count("had tracked 'deck', and this program does not") == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"name": "a/b"}, "can't name a job"),
        ({"name": ""}, "name"),
        ({"name": 3}, "name"),
        ({"name": "../x"}, "can't name a job"),
        ({"base_model": 3}, "base_model"),
        ({"rank": 0}, "rank"),
        ({"seed": -1}, "seed"),
        ({"steps": -1}, "steps"),
        ({"steps": 1.5}, "steps"),
        ({"updates_per_step": 0}, "updates_per_step"),
        ({"train_mlp": 1}, "train_mlp"),
        ({"checkpoints": 3}, "checkpoints"),
        ({"budget": 3}, "budget"),
        ({"budget": Budget(cost=1.0, prices={"x": PRICES[BASE_MODEL]})}, "has no price of"),
        ({"folder": 3}, "folder"),
        ({"user_metadata": {"a": 1}}, "user_metadata"),
        ({"capture": "never"}, "capture"),
        ({"catch_signals": "no"}, "catch_signals"),
    ],
)
def test_options_that_make_no_sense_are_refused_at_the_call(options: dict[str, Any], words: str):
    async def story(lives: Lives) -> None:
        async def work(runtime: Runtime) -> None:
            with pytest.raises(InvalidInput, match=words):
                job(runtime, **options)
            assert await lives.disk.names(Path("/")) == ()

        await lives.live(work)

    in_lives(story)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"tokens": 0}, "budget.tokens"),
        ({"cost": 0.0, "prices": PRICES}, "budget.cost"),
        ({"cost": 1.0}, "budget.prices"),
        ({"cost": 1.0, "prices": {BASE_MODEL: 3}}, "budget.cost|prices"),
    ],
)
def test_a_budget_that_makes_no_sense_is_refused(given: dict[str, Any], words: str):
    with pytest.raises(InvalidInput, match=words):
        Budget(**given).require_price(BASE_MODEL)


def test_a_disk_that_is_full_costs_nothing_but_safety_until_there_is_room(caplog: pytest.LogCaptureFixture):
    async def story(lives: Lives) -> None:
        async def fill(job: Job, step: int) -> None:
            await trio.sleep(30.0)
            if step == 3:
                lives.disk.capacity = lives.disk.used
            if step == 7:
                assert job.safe_step == 2
                lives.disk.capacity = None

        await lives.live(lambda runtime: train(lives, runtime, until=fill, ahead=0))
        assert len(await lives.rows()) == 8

    in_lives(story)
    assert "can't write, which is tried again in" in caplog.text


@pytest.mark.parametrize("seed", range(4))
def test_rows_that_a_disk_did_not_make_certain_are_written_again_before_a_record_counts_on_them(seed: int):
    async def story(lives: Lives) -> tuple[str, list[bytes]]:
        def refuse(call: str, path: Path) -> None:
            if call == "sync":
                lives.disk.fault = None
                raise DiskError(path, "can't be written: Input/output error", "Look at the disk")

        async def die(job: Job, step: int) -> None:
            if step == 4:
                await trio.sleep(10.0)  # its save is done, and its row comes
                lives.disk.fault = refuse
            if step == 5:
                await trio.sleep(10.0)
                assert lives.disk.fault is None
                assert job.safe_step == 4
                lives.die()
                await trio.sleep_forever()

        with pytest.raises(Died):
            await lives.live(lambda runtime: train(lives, runtime, until=die, ahead=0))
        digest, _ = await lives.live(lambda runtime: train(lives, runtime))
        return digest, await lives.rows()

    async def calm(lives: Lives) -> tuple[str, list[bytes]]:
        digest, _ = await lives.live(lambda runtime: train(lives, runtime))
        return digest, await lives.rows()

    assert in_lives(story, seed) == in_lives(calm, seed)


def test_a_disk_that_stays_full_is_an_error_at_the_end():
    async def story(lives: Lives) -> None:
        async def fill(job: Job, step: int) -> None:
            await trio.sleep(1.0)
            if step == 3:
                lives.disk.capacity = lives.disk.used

        with pytest.raises(DiskFull):
            await lives.live(lambda runtime: train(lives, runtime, until=fill, ahead=0))
        lives.disk.capacity = None
        assert (await record(lives)).step == 2

    in_lives(story)


def test_a_folder_that_can_not_be_used_is_told_before_the_server_is_asked():
    async def story(lives: Lives) -> None:
        lives.disk.read_only = True
        with pytest.raises(DiskError, match="Read-only"):
            await lives.live(lambda runtime: train(lives, runtime))
        assert not lives.server.service.models

    in_lives(story)


def test_a_checkpoint_that_can_not_be_saved_at_the_end_is_an_error(monkeypatch: pytest.MonkeyPatch):
    async def story(lives: Lives) -> None:
        async def spoil(job: Job, step: int) -> None:
            if step == 8:

                def refuse(*args: Any, **more: Any) -> Any:
                    raise OSError("no room")

                monkeypatch.setattr(Catalog, "save", refuse)

        with pytest.raises(RequestFailedError, match="no room"):
            await lives.live(lambda runtime: train(lives, runtime, until=spoil, policy=CheckpointPolicy()))
        assert (await record(lives)).status == "failed"

    in_lives(story)


def test_jobs_are_listed_with_those_that_are_damaged():
    async def story(lives: Lives) -> Any:
        assert await list_jobs(lives.disk, FOLDER) == ()
        for name in ("b", "a"):
            await lives.live(lambda runtime, name=name: train(lives, runtime, steps=2, name=name))
        await lives.disk.make_folder(FOLDER / "empty")
        await lives.disk.make_folder(FOLDER / "c")
        await lives.disk.replace(FOLDER / "c" / "record.json", b"?")
        await lives.disk.replace(FOLDER / "file", b"?")
        return [(folder.name, type(found)) for folder, found in await list_jobs(lives.disk, FOLDER)]

    assert in_lives(story) == [("a", ResumeRecord), ("b", ResumeRecord), ("c", JobError)]
