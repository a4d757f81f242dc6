"""Jobs in simulation: what is resumed, how often, and what stops them."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import trio

from tests.clients.scenario import batch
from tests.recovery.jobs.blocks import PRICES, job, one_step, record, usage
from tests.recovery.jobs.data import STEP
from tests.recovery.jobs.lives import FOLDER, Died, Lives, in_lives, train
from tinker_actors.config import CheckpointPolicy
from tinker_actors.errors import (
    ClosedError,
    InvalidInput,
    JobError,
)
from tinker_actors.local.owners import Owner
from tinker_actors.recovery.jobs import Budget, Job, ResumeRecord, list_jobs
from tinker_actors.runtime import Runtime
from tinker_actors.testing.operations import BASE_MODEL
from tinker_actors.types import SamplingParams


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


@pytest.mark.parametrize("budget", [None, Budget(cost=1e-9, prices=PRICES)])
def test_what_is_asked_to_stop_in_its_last_step_is_done(budget: Budget | None):
    async def story(lives: Lives) -> None:
        async def work(runtime: Runtime) -> None:
            async with job(runtime, steps=1, budget=budget) as run:
                for step in run.steps():
                    await one_step(run, step)
                    run.log({"n": step})
                    if budget is None:
                        run.stop()
                        assert run.stopped == "the program asked for it"
                assert run.done
                assert run.stopped is None
            assert run.stopped is None

        await lives.live(work)
        found = await record(lives)
        assert (found.status, found.reason) == ("done", "")

    in_lives(story)


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
        first, used = await record(lives), await usage(lives)
        await lives.live(lambda runtime: train(lives, runtime, budget=budget, ahead=0))
        return first, used, await record(lives)

    first, used, second = in_lives(story)
    assert first.status == "stopped"
    assert words in first.reason
    assert 0 < first.step < 8
    assert used[BASE_MODEL].trained >= 30
    assert second.step == first.step, "nothing was left of it"


def test_what_is_done_again_after_a_death_has_been_used_all_the_same():
    async def story(lives: Lives) -> Any:
        seen: list[Any] = []

        async def play(runtime: Runtime) -> None:
            budget = Budget(tokens=1 if seen else 10**6)
            async with job(runtime, steps=9, checkpoints=CheckpointPolicy(every_steps=2), budget=budget) as run:
                seen.append((run.safe_step, run.usage()))
                for step in run.steps():
                    await trio.sleep(1.0)
                    if step == 6:
                        seen.append((run.safe_step, run.usage()))
                        lives.die()
                        await trio.sleep(1.0)
                    await one_step(run, step)
                    run.log({"n": step})
                seen.append((run.step, run.stopped))

        with pytest.raises(Died):
            await lives.live(play)
        await lives.live(play)
        return seen, await usage(lives)

    (first, died, again, end), used = in_lives(story)
    assert first == (0, {})
    assert died[0] == 4
    assert again == died, "five steps were paid for"
    assert end == (4, f"its budget of 1 tokens is used up ({died[1][BASE_MODEL].trained})")
    assert used == died[1]


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


def test_a_seed_is_drawn_once_and_kept():
    async def story(lives: Lives) -> list[Any]:
        async def work(runtime: Runtime) -> Any:
            async with job(runtime, seed=None) as run:
                return run.seed, run.rng.random()

        return [await lives.live(work) for _ in range(2)]

    (first, drawn), (second, again) = in_lives(story)
    assert first == second
    assert drawn == again, "no step was done, so nothing was drawn"


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


def test_the_command_that_goes_on_is_one_for_a_shell(caplog: pytest.LogCaptureFixture):
    async def story(lives: Lives) -> None:
        async def work(runtime: Runtime) -> None:
            async with job(runtime, folder="/my jobs"):
                pass

        await lives.live(work)

    in_lives(story)
    assert "tinker-actors job resume job --folder '/my jobs'" in caplog.text


def test_a_block_that_was_not_entered_says_how_it_is():
    async def story(lives: Lives) -> None:
        async def work(runtime: Runtime) -> None:
            block = job(runtime)
            with pytest.raises(AttributeError, match=r"no 'steps'.*: async with runtime\.job\(\.\.\.\) as job"):
                block.steps()
            assert not hasattr(block, "client")

        await lives.live(work)

    in_lives(story)


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
