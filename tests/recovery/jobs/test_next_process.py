"""What a job's next process knows of checkpoints: to go back to, the best, and those that nobody has heard of."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.recovery.jobs.blocks import job, one_step, record
from tests.recovery.jobs.lives import Died, Lives, in_lives, train
from tests.recovery.jobs.test_deaths import DeathAt
from tinker_actors.config import CheckpointPolicy, RecoveryPolicy
from tinker_actors.local.owners import Owner
from tinker_actors.recovery.jobs import Job
from tinker_actors.runtime import Runtime

STEPS = 8
SOMEBODY = Owner("somebody")
EVERY_STEP = CheckpointPolicy(every_steps=1, keep_last=4)


def there(lives: Lives) -> list[str]:
    return sorted(found.path for found in lives.server.service.catalog.checkpoints(SOMEBODY))


async def die_at(lives: Lives, step: int, **options: Any) -> None:
    """A life that ends after the checkpoint of ``step`` is recorded."""

    async def die(job: Job, now: int) -> None:
        await trio.sleep(1.0)
        if now == step:
            lives.die()
            await trio.sleep(1.0)

    with pytest.raises(Died):
        await lives.live(lambda runtime: train(lives, runtime, until=die, ahead=0, **options))


async def to_the_end(lives: Lives, **options: Any) -> tuple[str, list[bytes]]:
    while True:
        try:
            digest, done = await lives.live(lambda runtime: train(lives, runtime, **options))
        except Died:
            continue
        assert done
        return digest, await lives.rows()


@pytest.fixture(scope="module")
def calm() -> tuple[str, list[bytes]]:
    return in_lives(to_the_end)


@pytest.mark.parametrize("gone", [1, 2])
def test_a_job_whose_newest_checkpoints_are_gone_goes_back_to_one_that_is_there(
    gone: int, calm: tuple[str, list[bytes]], caplog: pytest.LogCaptureFixture
):
    async def story(lives: Lives) -> Any:
        await die_at(lives, 6, policy=EVERY_STEP)
        found = await record(lives)
        points = [*found.earlier, found.point]
        steps = [point.step for point in points if point is not None]
        assert steps[-3:] == [3, 4, 5]
        for point in points[-gone:]:
            assert point is not None
            lives.server.service.catalog.remove(SOMEBODY, point.checkpoint)
        began: list[int | None] = []

        async def look(job: Job, step: int) -> None:
            if not began:
                began.append(job.resumed_from)
                assert (await record(lives)).step == job.resumed_from
                rows = await lives.rows()
                assert [row.partition(b",")[0] for row in rows] == [
                    b'{"step":%d' % step for step in steps_to(began[0])
                ]

        result = await to_the_end(lives, until=look)
        assert began == [5 - gone]
        return result

    assert in_lives(story) == calm
    assert (
        f"the job job goes back to step {5 - gone}, of 5 that were safe, since the server has no more: "
        in caplog.text
    )


def steps_to(last: int | None) -> range:
    return range(1, (last or 0) + 1)


@pytest.mark.parametrize("seed", range(12))
def test_a_death_on_the_way_back_changes_nothing(seed: int, calm: tuple[str, list[bytes]]):
    death = DeathAt(random.Random(seed).randrange(1, 200))

    async def story(lives: Lives) -> Any:
        await die_at(lives, 6, policy=EVERY_STEP)
        found = await record(lives)
        assert found.point is not None
        lives.server.service.catalog.remove(SOMEBODY, found.point.checkpoint)
        death.lives = lives
        return await to_the_end(lives)

    assert in_lives(story, seed, instruments=[death]) == calm


@pytest.mark.parametrize("left", range(6))
def test_a_death_between_any_two_changes_of_the_disk_on_the_way_back_changes_nothing(
    left: int, calm: tuple[str, list[bytes]]
):
    async def story(lives: Lives) -> Any:
        await die_at(lives, 6, policy=EVERY_STEP)
        found, changes = await record(lives), []
        assert found.point is not None
        lives.server.service.catalog.remove(SOMEBODY, found.point.checkpoint)

        def death(call: str, path: Path) -> None:
            if call in ("replace", "truncate"):
                changes.append(call)
                if len(changes) == left + 1:
                    lives.die()

        lives.disk.death = death
        result = await to_the_end(lives)
        assert len(changes) > left
        return result

    assert in_lives(story, left) == calm


BEST = CheckpointPolicy(every_steps=1, keep_last=1, keep_best=1, best_metric="eval")


@pytest.mark.parametrize("row", [True, False], ids=["safe", "of a step that is done again"])
def test_the_best_of_an_earlier_process_stays_whenever_that_was_said(row: bool):
    async def story(lives: Lives) -> None:
        best: list[str] = []

        async def play(runtime: Runtime) -> None:
            first = not best
            async with job(runtime, steps=STEPS, checkpoints=BEST) as run:
                for step in run.steps():
                    await one_step(run, step)
                    if row or step < 4 or not first:
                        run.log({"n": step})
                    await trio.sleep(1.0)
                    run.client.checkpoints.report({"eval": 9.0 - step})
                    await trio.sleep(1.0)
                    if first and step == 4:
                        assert run.safe_step == (4 if row else 3)
                        best.append(run.client.checkpoints.saved[-1].path)
                        run.client.checkpoints.report({"eval": 0.5})
                        await trio.sleep(0.1)
                        lives.die()
                        await trio.sleep(1.0)
                kept = {saved.path: saved.metric for saved in run.client.checkpoints.saved}
                assert kept[best[0]] == 0.5
                assert sorted(kept) == there(lives)
                assert len(kept) == 2

        with pytest.raises(Died):
            await lives.live(play)
        await lives.live(play)
        assert best[0] in there(lives)

    in_lives(story)


def test_what_is_said_of_a_checkpoint_is_known_to_a_recovery_of_the_next_process():
    async def story(lives: Lives) -> None:
        runs: list[str] = []
        best: list[str] = []

        async def play(runtime: Runtime) -> None:
            first = not runs
            async with job(runtime, steps=6, checkpoints=EVERY_STEP) as run:
                for step in run.steps() if first else ():
                    await one_step(run, step)
                    run.log({"n": step})
                    await trio.sleep(1.0)
                    if step == 3:
                        runs.append(run.client.model_id)
                        best.append(run.client.checkpoints.saved[1].path)
                        runtime.recovery.note_metrics(best[0], {"bleu": 40.0})
                    if step == 4:
                        lives.die()
                        await trio.sleep(1.0)
                policy = RecoveryPolicy(checkpoint="best", best_metric="bleu", best="highest")
                recovered = await runtime.recovery.recover(runs[0], run.service, policy=policy)
                assert recovered.checkpoint == best[0]

        with pytest.raises(Died):
            await lives.live(play)
        await lives.live(play)

    in_lives(story)


def test_what_an_earlier_process_has_saved_and_not_recorded_or_given_up_is_pruned():
    async def story(lives: Lives) -> None:
        strays: list[str] = []

        async def play(runtime: Runtime) -> None:
            first = not strays
            async with job(runtime, steps=STEPS, checkpoints=CheckpointPolicy(every_steps=1, keep_last=1)) as run:
                for step in run.steps():
                    await one_step(run, step)
                    if not first or step < 3:
                        run.log({"n": step})
                    await trio.sleep(1.0)
                    if first and step == 3:
                        given_up = (await (await run.client.save_state("given-up"))).path
                        assert given_up not in [saved.path for saved in run.client.checkpoints.saved]
                        run.client.checkpoints.kept.give_up(run.client.model_id, "given-up", 3, 9, certain=True)
                        await trio.sleep(0.1)
                        assert run.safe_step == 2
                        strays.extend([given_up, run.client.checkpoints.saved[-1].path])
                        assert set(strays) < set(there(lives))
                        lives.die()
                        await trio.sleep(1.0)
                assert there(lives) == [saved.path for saved in run.client.checkpoints.saved]
                assert len(there(lives)) == 1

        with pytest.raises(Died):
            await lives.live(play)
        await lives.live(play)

    in_lives(story)


def test_a_state_that_is_no_step_any_more_is_pruned_at_once():
    async def story(lives: Lives) -> None:
        seen: list[list[int]] = []

        async def play(runtime: Runtime, first: bool) -> None:
            async with job(runtime, steps=STEPS, checkpoints=CheckpointPolicy(every_steps=1, keep_last=2)) as run:
                for step in run.steps():
                    if not first:
                        seen.append([saved.step for saved in run.client.checkpoints.saved])
                    await one_step(run, step)
                    if step < 3 or not first:
                        run.log({"n": step})
                    await trio.sleep(1.0)
                    if first and step == 4:
                        assert run.safe_step == 2
                        assert [saved.step for saved in run.client.checkpoints.saved] == [2, 3, 4]
                        lives.die()
                        await trio.sleep(1.0)

        with pytest.raises(Died):
            await lives.live(lambda runtime: play(runtime, True))
        await lives.live(lambda runtime: play(runtime, False))
        assert seen[1:3] == [[2, 3], [3, 4]]

    in_lives(story)
