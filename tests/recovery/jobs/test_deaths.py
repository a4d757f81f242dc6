"""P7: whatever instant the process dies at, the same program run again ends as one that nothing has disturbed."""

from __future__ import annotations

import random
from typing import Any

import pytest
import trio
import trio.lowlevel

from supervision import ActorCrashed
from tests.recovery.jobs.lives import FOLDER, Died, Lives, in_lives, train
from tinker_actors.config import CheckpointPolicy
from tinker_actors.local.owners import Owner
from tinker_actors.recovery.jobs import Job

STEPS = 7
MANY_LIVES = 40


class DeathAt(trio.abc.Instrument):
    """``lives`` dies before the scheduler's step ``step`` of its first life."""

    def __init__(self, step: int) -> None:
        self.left = step
        self.lives: Lives | None = None
        self.steps = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        if self.lives is None:
            return
        self.steps += 1
        self.left -= 1
        if self.left == 0:
            lives, self.lives = self.lives, None
            lives.die()


async def to_the_end(lives: Lives, **options: Any) -> tuple[str, list[bytes], int]:
    """Live until the job is done; weights, rows, and how many lives it took."""
    for count in range(1, MANY_LIVES):
        try:
            digest, done = await lives.live(lambda runtime: train(lives, runtime, steps=STEPS, **options))
        except Died:
            continue
        assert done
        return digest, await lives.rows(), count
    raise AssertionError("it never ends")


def undisturbed(**options: Any) -> tuple[str, list[bytes]]:
    digest, rows, count = in_lives(lambda lives: to_the_end(lives, **options))
    assert count == 1
    assert [row.partition(b",")[0] for row in rows] == [b'{"step":%d' % step for step in range(1, STEPS + 1)]
    return digest, rows


def life_dying_at(step: int, seed: int, **options: Any) -> tuple[str, list[bytes], int]:
    death = DeathAt(step)

    async def story(lives: Lives) -> tuple[str, list[bytes], int]:
        death.lives = lives
        return await to_the_end(lives, **options)

    return in_lives(story, seed, instruments=[death])


@pytest.fixture(scope="module")
def calm() -> tuple[str, list[bytes]]:
    return undisturbed()


def length_of_a_life() -> int:
    death = DeathAt(10**9)

    async def story(lives: Lives) -> None:
        death.lives = lives
        await to_the_end(lives)

    in_lives(story, instruments=[death])
    return death.steps


LENGTH = 900
"""Scheduler steps of a whole life, about."""


def test_a_life_is_about_as_long_as_these_tests_take_it_for():
    assert LENGTH * 0.5 < length_of_a_life() < LENGTH * 1.5


@pytest.mark.parametrize("seed", range(24))
def test_a_death_at_a_random_step_of_the_scheduler_changes_nothing(seed: int, calm: tuple[str, list[bytes]]):
    step = random.Random(seed).randrange(1, LENGTH)
    digest, rows, lives = life_dying_at(step, seed)
    assert (digest, rows) == calm
    assert lives <= 2


@pytest.mark.ci
@pytest.mark.parametrize("part", range(8))
def test_a_death_at_each_step_of_the_scheduler_changes_nothing(part: int, calm: tuple[str, list[bytes]]):
    for step in range(1 + part, LENGTH, 8):
        digest, rows, _ = life_dying_at(step, 1)
        assert (digest, rows) == calm, f"step {step}"


@pytest.mark.parametrize("seed", range(6))
def test_many_deaths_at_random_moments_change_nothing(seed: int, calm: tuple[str, list[bytes]]):
    async def story(lives: Lives) -> tuple[str, list[bytes], int]:
        rng = random.Random(seed)

        async def kill() -> None:
            while True:
                await trio.sleep(rng.uniform(0.02, 0.3))
                if lives.wire is not None and not lives.wire.dead:
                    lives.die()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(kill)
            result = await to_the_end(lives, policy=CheckpointPolicy(every_steps=1))
            nursery.cancel_scope.cancel()
        return result

    digest, rows, lives = in_lives(story, seed)
    assert (digest, rows) == calm
    assert lives > 2


@pytest.mark.parametrize("ahead", [0, 3])
@pytest.mark.parametrize("seed", range(4))
def test_however_far_the_program_is_ahead_of_its_rows(seed: int, ahead: int, calm: tuple[str, list[bytes]]):
    policy = CheckpointPolicy(every_steps=1, keep_last=1)
    digest, rows, _ = life_dying_at(
        random.Random(seed + 100).randrange(300, LENGTH), seed, ahead=ahead, policy=policy
    )
    assert (digest, rows) == calm


def test_a_record_that_points_to_a_checkpoint_always_finds_it():
    async def story(lives: Lives) -> None:
        seen = []

        async def check(job: Job, step: int) -> None:
            await trio.sleep(0.3)
            if job.safe_step:
                point = job._recorder.record.point
                assert point is not None
                seen.append(point.checkpoint)
                assert lives.server.service.catalog.find(Owner("somebody"), point.checkpoint)

        policy = CheckpointPolicy(every_steps=1, keep_last=1)
        await lives.live(lambda runtime: train(lives, runtime, policy=policy, until=check, ahead=4))
        assert len(set(seen)) > 2

    in_lives(story)


def test_checkpoints_of_earlier_lives_are_pruned_and_those_that_nobody_knows_expire():
    async def story(lives: Lives) -> list[int]:
        async def die(job: Job, step: int) -> None:
            await trio.sleep(1.0)
            if step == 5:
                lives.die()
                await trio.sleep(1.0)

        def there() -> list[str]:
            found = lives.server.service.catalog.checkpoints(Owner("somebody"))
            return sorted(record.path.rpartition("/")[2] for record in found)

        policy = CheckpointPolicy(every_steps=1, keep_last=1, ttl_seconds=7200)
        with pytest.raises(Died):
            await lives.live(lambda runtime: train(lives, runtime, steps=STEPS, until=die, policy=policy, ahead=0))
        assert len(there()) == 2, "the record's, and one that was saved and not recorded"

        async def wait(job: Job, step: int) -> None:
            await trio.sleep(10.0)

        await lives.live(lambda runtime: train(lives, runtime, steps=STEPS, until=wait, policy=policy, ahead=0))
        left = len(there())
        await trio.sleep(7200.0)
        assert there() == [f"job-final-{STEPS}"]
        return [left]

    (left,) = in_lives(story)
    assert left <= 2, "the last and the final one"


def test_a_crash_of_the_keeper_costs_nothing(calm: tuple[str, list[bytes]]):
    async def story(lives: Lives) -> Any:
        async def crash(job: Job, step: int) -> None:
            keeper = lives.runtime.system.root.child("jobs").child("job-job")
            life = keeper.place.life

            async def fail() -> None:
                raise RuntimeError("planted")

            if life is not None:
                from supervision.context import Context

                Context(life).start_task(fail, name="planted")
            await trio.sleep(0.01)

        out = await lives.live(lambda runtime: train(lives, runtime, steps=STEPS, until=crash))
        crashes = [event for event in lives.events if isinstance(event, ActorCrashed)]
        assert len(crashes) >= 2
        return out[0], await lives.rows()

    assert in_lives(story) == calm


def test_what_dies_without_a_record_begins_anew(calm: tuple[str, list[bytes]]):
    async def story(lives: Lives) -> Any:
        async def die(job: Job, step: int) -> None:
            if step == 4:
                lives.die()

        with pytest.raises(Died):
            await lives.live(
                lambda runtime: train(
                    lives, runtime, steps=STEPS, until=die, policy=CheckpointPolicy(every_steps=100)
                )
            )
        return (await to_the_end(lives))[:2]

    assert in_lives(story) == calm


def test_a_server_that_loses_all_models_meanwhile(calm: tuple[str, list[bytes]]):
    async def story(lives: Lives) -> Any:
        async def lose(job: Job, step: int) -> None:
            if step in (3, 6):
                lives.server.service.models[job.client.model_id].close("it was lost", abandon=True)
            if step == 5:
                lives.die()
                await trio.sleep(1.0)

        with pytest.raises(Died):
            await lives.live(lambda runtime: train(lives, runtime, steps=STEPS, until=lose))

        async def lose_again(job: Job, step: int) -> None:
            if step == 6:
                await lose(job, step)

        return (await to_the_end(lives, until=lose_again))[:2]

    assert in_lives(story) == calm


async def job_record(lives: Lives) -> bytes:
    return await lives.disk.read(FOLDER / "job" / "record.json")
