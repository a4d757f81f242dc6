"""What a job refuses: other values, other processes, damaged files, disks without room."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.recovery.jobs.blocks import PRICES, job, one_step, record
from tests.recovery.jobs.lives import FOLDER, Died, Lives, in_lives, train
from tinker_actors.config import CheckpointPolicy
from tinker_actors.errors import (
    BadRequestError,
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
from tinker_actors.recovery.jobs import Budget, Job
from tinker_actors.runtime import Runtime
from tinker_actors.testing.operations import BASE_MODEL


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


def test_checkpoints_that_are_all_gone_are_told_with_what_to_do():
    async def story(lives: Lives) -> None:
        await lives.live(lambda runtime: train(lives, runtime, steps=4))
        found, rows = await record(lives), await lives.rows()
        assert found.point is not None
        points = [*found.earlier, found.point]
        for one in lives.server.service.catalog.checkpoints(Owner("somebody")):
            lives.server.service.catalog.remove(Owner("somebody"), one.path)
        words = r"can't go on after step 4: of its checkpoints none is .* remove /jobs/job"
        with pytest.raises(JobError, match=words) as no:
            await lives.live(lambda runtime: train(lives, runtime, steps=8))
        assert len(points) > 1
        assert all(f"{point.checkpoint} (step {point.step})" in str(no.value) for point in points)
        now = await record(lives)
        assert (now.point, now.earlier, await lives.rows()) == (found.point, found.earlier, rows)

    in_lives(story)


def test_a_checkpoint_that_is_there_and_can_not_be_loaded_is_not_given_up(monkeypatch: pytest.MonkeyPatch):
    async def story(lives: Lives) -> None:
        await lives.live(lambda runtime: train(lives, runtime, steps=4))
        found, rows = await record(lives), await lives.rows()

        def refuse(*args: Any, **more: Any) -> Any:
            raise OSError("a disk of the server's")

        with monkeypatch.context() as patched:
            patched.setattr(Catalog, "read", refuse)
            with pytest.raises(JobError, match=r"can't be loaded \(.*the server does not say that it is gone"):
                await lives.live(lambda runtime: train(lives, runtime, steps=8))
        now = await record(lives)
        assert (now.point, now.earlier, await lives.rows()) == (found.point, found.earlier, rows)
        assert (await lives.live(lambda runtime: train(lives, runtime)))[1]

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


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda rows: rows[:5], "where [0-9]+ are known to have been written"),
        (lambda rows: None, "is not there, where"),
        (lambda rows: b"{}\n" + rows, "has no row of step 2 that ends at byte"),
        (lambda rows: rows.replace(b'"step":2', b'"step":5'), "has no row of step 2 that ends at byte"),
        (lambda rows: bytes(len(rows)), "has no row of step 2 that ends at byte"),
        (lambda rows: rows[:-1] + b" \n", "has no row of step 2 that ends at byte"),
    ],
    ids=["short", "gone", "longer", "another", "zeros", "shifted"],
)
def test_rows_that_are_missing_or_others_are_told_and_not_cut(change: Callable[[bytes], bytes | None], words: str):
    async def story(lives: Lives) -> None:
        file = FOLDER / "job" / "metrics.jsonl"
        await lives.live(lambda runtime: train(lives, runtime, steps=2))
        changed = change(await lives.disk.read(file))
        await lives.disk.remove(file)
        if changed is not None:
            await lives.disk.replace(file, changed)
        with pytest.raises(JobError, match=words) as found:
            await lives.live(lambda runtime: train(lives, runtime, steps=3))
        assert "rows up to step 2 were written" in str(found.value)
        assert (None if await lives.disk.size(file) is None else await lives.disk.read(file)) == changed

    in_lives(story)


def test_rows_of_any_length_are_found_again():
    async def story(lives: Lives) -> list[bytes]:
        for steps in (1, 2):
            await lives.live(lambda runtime, steps=steps: play(runtime, steps))
        return await lives.rows()

    async def play(runtime: Runtime, steps: int) -> None:
        async with job(runtime, steps=steps) as run:
            for step in run.steps():
                await one_step(run, step)
                run.log({"text": "x" * 200_000})

    assert [json.loads(row)["step"] for row in in_lives(story)] == [1, 2]


def test_a_folder_that_was_copied_is_refused_before_it_takes_the_others_checkpoints():
    async def story(lives: Lives) -> None:
        await lives.live(lambda runtime: train(lives, runtime, steps=2))
        data = await lives.disk.read(FOLDER / "job" / "record.json")
        await lives.disk.make_folder(FOLDER / "other")
        await lives.disk.replace(FOLDER / "other" / "record.json", data)
        with pytest.raises(JobError, match="/jobs/other has the record of the job job, and its checkpoints"):
            await lives.live(lambda runtime: train(lives, runtime, steps=9, name="other"))
        assert await lives.disk.read(FOLDER / "other" / "record.json") == data
        await lives.live(lambda runtime: train(lives, runtime, steps=3))

    in_lives(story)


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


def test_a_reason_that_is_no_text_is_refused_and_the_record_stays_one():
    async def story(lives: Lives) -> None:
        async def work(runtime: Runtime) -> None:
            async with job(runtime) as run:
                for step in run.steps():
                    await one_step(run, step)
                    reasons: list[Any] = [5, "", None, ["enough"]]
                    for reason in reasons:
                        with pytest.raises(InvalidInput, match="reason"):
                            run.stop(reason)
                    assert run.stopped is None
                    if step == 2:
                        run.stop("enough")

        await lives.live(work)
        found = await record(lives)
        assert (found.status, found.reason, found.step) == ("stopped", "enough", 2)

    in_lives(story)


def test_what_keeps_a_job_from_being_opened_is_recorded_as_its_end():
    async def story(lives: Lives) -> None:
        async def refused(runtime: Runtime) -> None:
            with pytest.raises(BadRequestError):
                async with job(runtime, rank=5000):
                    pass
            found = await record(lives)
            assert found.status == "failed"
            assert found.reason.startswith("BadRequestError: POST /api/v1/create_model: HTTP 400: lora_config.rank")
            async with job(runtime) as run:
                for step in run.steps():
                    await one_step(run, step)
            assert ((await record(lives)).status, (await record(lives)).reason) == ("done", "")

        await lives.live(refused)
        before = await record(lives)
        assert before.point is not None

        async def interrupted(runtime: Runtime) -> None:
            with trio.move_on_after(1.0):
                async with job(runtime, steps=8):
                    raise AssertionError("it was opened")

        lives.server.network.partition()
        await lives.live(interrupted)
        lives.server.network.heal()
        found = await record(lives)
        assert (found.status, found.reason) == ("stopped", "it was left while it was being opened")
        assert found.point == before.point

    in_lives(story)


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


def test_a_disk_that_stays_full_is_an_error_at_the_end(caplog: pytest.LogCaptureFixture):
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
    assert "could not write its last record, so it would go on after step 2, of 8 that were done" in caplog.text


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
