"""The rows of a job, and what it tracks: each once, and as it was."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trio

from tests.recovery.jobs.blocks import job, one_step, record
from tests.recovery.jobs.data import Deck
from tests.recovery.jobs.lives import Died, Lives, in_lives, train
from tinker_actors.config import CheckpointPolicy
from tinker_actors.errors import (
    DiskError,
    InvalidInput,
    JobError,
)
from tinker_actors.recovery.jobs import Job
from tinker_actors.runtime import Runtime


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
    class Tensor:
        def __float__(self) -> float:
            raise RuntimeError("a Tensor with 2 elements cannot be converted to Scalar")

    tensor = {"n": Tensor()}

    async def story(lives: Lives) -> list[bytes]:
        async def work(runtime: Runtime) -> None:
            async with job(runtime, checkpoints=CheckpointPolicy(best_metric="loss", keep_best=1)) as run:
                with pytest.raises(InvalidInput, match="has not begun"):
                    run.log({"loss": 1.0}, step=1)
                with pytest.raises(InvalidInput, match="no step has begun"):
                    run.log({"loss": 1.0})
                for step in run.steps():
                    await one_step(run, step)
                    run.log({"loss": np.float32(0.5), "n": step, "text": "é", "flag": True, "nan": float("nan")})
                    for metrics in ({"step": 1}, {1: 2}, {"list": []}, [1], {"loss": "low"}, {"n": 10**5000}, tensor):
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

    class Numbered(Deck):
        def get_state(self) -> Any:
            return {"seen": {1: True}}

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
                with pytest.raises(InvalidInput, match="its key 3 is no text, and would come back as one"):
                    run.position = {"files": [({3: "seen"},)]}
                assert run.position == 0
                with pytest.raises(JobError, match="'numbered' can't be kept: its key 1 is no text"):
                    run.track("numbered", Numbered(3))
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


def test_a_state_that_can_not_be_kept_at_the_end_is_an_error_and_the_record_before_counts(
    caplog: pytest.LogCaptureFixture,
):
    async def story(lives: Lives) -> None:
        async def work(runtime: Runtime, spoil: bool) -> None:
            async with job(runtime, checkpoints=CheckpointPolicy(every_steps=1)) as run:
                deck = run.track("deck", Deck(3))
                for step in run.steps():
                    deck.place = {1, 2} if spoil and step > 2 else step  # type: ignore[assignment]
                    await one_step(run, step)
                    run.log({"n": step})

        with pytest.raises(JobError, match="the state of what is tracked as 'deck' can't be kept"):
            await lives.live(lambda runtime: work(runtime, True))
        found = await record(lives)
        assert (found.status, found.step) == ("failed", 2)
        assert "'deck' can't be kept" in found.reason
        await lives.live(lambda runtime: work(runtime, False))
        found = await record(lives)
        assert (found.status, found.step) == ("done", 4)
        assert [json.loads(row)["n"] for row in await lives.rows()] == [1, 2, 3, 4]

    in_lives(story)
    assert "the job job records nothing" in caplog.text


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
