"""A time of day that is set anew, at the client's machine or at the server's, changes nothing of a job."""

from __future__ import annotations

import pytest
import trio

from supervision import ActorCrashed
from tests.recovery.jobs.lives import FOLDER, Died, Lives, in_lives, train
from tinker_actors.config import CheckpointPolicy
from tinker_actors.errors import JobError
from tinker_actors.local.owners import Owner
from tinker_actors.recovery.jobs import Job, list_jobs
from tinker_actors.testing.faults import JumpClock

STEPS = 6
DAY = 86_400.0
POLICY = CheckpointPolicy(every_steps=1, ttl_seconds=int(DAY))


def saved(lives: Lives) -> list[str]:
    """The paths of the checkpoints that the server has."""
    return [record.path for record in lives.server.service.catalog.checkpoints(Owner("somebody"))]


async def jump(lives: Lives, seconds: float, *, client: bool) -> None:
    await lives.server.suffer(JumpClock(path="", seconds=seconds, client=client))


async def lived(lives: Lives, jumps: tuple[tuple[float, bool], ...]) -> tuple[str, list[bytes]]:
    """A job that dies in each life but the last, where the clocks jump before and within each."""
    left = list(jumps)

    async def disturb(job: Job, step: int) -> None:
        if left and step == job.safe_step + 2:
            seconds, client = left.pop(0)
            await jump(lives, seconds, client=client)
            await trio.sleep(5.0)
            lives.die()
            await trio.sleep_forever()

    while True:
        try:
            digest, done = await lives.live(
                lambda runtime: train(lives, runtime, steps=STEPS, ahead=0, policy=POLICY, until=disturb)
            )
        except Died:
            continue
        assert done
        assert left == []
        return digest, await lives.rows()


@pytest.mark.parametrize(
    "jumps",
    [
        ((-30 * DAY, True), (60 * DAY, True)),
        ((-30 * DAY, False), (-5.0, False), (0.4 * DAY, False)),
        ((-DAY, False), (DAY, True), (1.0, False)),
    ],
    ids=["at the client", "at the server", "at both"],
)
def test_clocks_that_jump_change_nothing_of_a_job_that_dies_meanwhile(jumps: tuple[tuple[float, bool], ...]):
    async def story(lives: Lives) -> tuple[str, list[bytes], set[str]]:
        digest, rows = await lived(lives, jumps)
        crashes = {event.path for event in lives.events if isinstance(event, ActorCrashed)}
        return digest, rows, crashes

    calm = in_lives(lambda lives: lived(lives, ()))
    assert in_lives(story) == (*calm, set())


@pytest.mark.parametrize("seconds", [-30 * DAY, 30 * DAY])
def test_expiry_is_put_off_whatever_time_the_client_s_machine_says_it_is(seconds: float):
    policy = CheckpointPolicy(every_steps=1, ttl_seconds=100)

    async def story(lives: Lives) -> None:
        async def wait(job: Job, step: int) -> None:
            if step == 3:
                await job.client.checkpoints.drained()
                await jump(lives, seconds, client=True)
                before = saved(lives)[-2:]
                await trio.sleep(1000.0)
                assert len(before) == 2
                assert saved(lives)[-2:] == before

        assert (await lives.live(lambda runtime: train(lives, runtime, steps=4, policy=policy, until=wait)))[1]

    in_lives(story)


def test_a_record_that_seems_to_be_of_tomorrow_is_listed_and_gone_on_from():
    async def story(lives: Lives) -> None:
        await jump(lives, 1000 * DAY, client=True)

        async def stop(job: Job, step: int) -> None:
            if step == 3:
                job.stop()

        await lives.live(lambda runtime: train(lives, runtime, steps=STEPS, policy=POLICY, until=stop))
        await jump(lives, -2000 * DAY, client=True)
        ((_, record),) = await list_jobs(lives.disk, FOLDER)
        assert not isinstance(record, JobError)
        assert record.written.startswith("2002-")
        assert (await lives.live(lambda runtime: train(lives, runtime, steps=STEPS, policy=POLICY)))[1]
        ((_, record),) = await list_jobs(lives.disk, FOLDER)
        assert record.written.startswith("1997-")

    in_lives(story)


def test_checkpoints_that_a_jump_of_the_servers_clock_has_ended_are_an_error_that_says_so():
    async def story(lives: Lives) -> str:
        async def stop(job: Job, step: int) -> None:
            if step == 3:
                job.stop()

        await lives.live(lambda runtime: train(lives, runtime, steps=STEPS, policy=POLICY, until=stop))
        await jump(lives, 2 * DAY, client=False)
        assert saved(lives) == []
        with pytest.raises(JobError) as caught:
            await lives.live(lambda runtime: train(lives, runtime, steps=STEPS, policy=POLICY))
        return str(caught.value)

    assert "expired" in in_lives(story)
