"""A training checkpoint by external weights: made for the download, kept while it lasts, deleted after it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.downloads.store import EXTERNAL, TARGET, WEIGHTS, Fault, Store, fetch, open_store
from tests.downloads.test_downloads import ARCHIVE, FILES, contents, listed
from tinker_actors.archives import ArchiveBounds
from tinker_actors.errors import APIStatusError, ArchiveError, DownloadError, InvalidInput, NotFoundError
from tinker_actors.types import TinkerPath

CHECKPOINT = "run:train:0/checkpoints/external_weights/mine"
KEPT, DELETED = f"PUT {CHECKPOINT}/ttl", f"DELETE {CHECKPOINT}"


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits before it tries again does so at once."""

    async def at_once(seconds: float) -> None:
        await trio.lowlevel.checkpoint()

    monkeypatch.setattr("tinker_actors.downloads.job.trio.sleep", at_once)


class Exports:
    """Makes external weights, as often as it is asked."""

    def __init__(self) -> None:
        self.of: list[str] = []

    async def __call__(self, path: TinkerPath) -> str:
        self.of.append(str(path))
        return EXTERNAL


def refuse(store: Store, status: int) -> None:
    """The next question is for an archive, and the server has none."""
    store.answers.append((status, {}, {"detail": "no"}))


@pytest.mark.parametrize("status", [None, 400, 404, 405, 422, 501])
async def test_where_there_is_no_archive_of_a_state_its_files_are_made(status: int | None, tmp_path: Path):
    exports = Exports()
    async with open_store() as store:
        store.files = dict(FILES)
        if status is not None:
            refuse(store, status)
        done = await fetch(store, tmp_path, export=exports, way="files" if status is None else None)
    assert (done.checkpoint_path, done.destination) == (WEIGHTS, tmp_path / TARGET)
    assert contents(done.destination) == FILES
    assert exports.of == [WEIGHTS]
    assert store.changes == [DELETED]
    assert listed(tmp_path) == [TARGET]


async def test_where_there_is_an_archive_nothing_is_made(tmp_path: Path):
    exports = Exports()
    async with open_store() as store:
        store.files["archive"] = ARCHIVE
        await fetch(store, tmp_path, export=exports)
    assert (exports.of, store.changes) == ([], [])


@pytest.mark.parametrize(
    ("path", "options"),
    [
        (WEIGHTS, {"way": "archive", "export": Exports()}),
        (WEIGHTS, {"sha256": "0" * 64, "export": Exports()}),
        (WEIGHTS, {}),
        (WEIGHTS.replace("/weights/", "/sampler_weights/"), {"export": Exports()}),
    ],
)
async def test_what_no_files_can_be_made_of_is_refused_as_the_server_does(
    path: str, options: dict[str, Any], tmp_path: Path
):
    async with open_store() as store:
        refuse(store, 404)
        with pytest.raises(NotFoundError):
            await fetch(store, tmp_path, path, **options)
        refuse(store, 403)
        with pytest.raises(APIStatusError):
            await fetch(store, tmp_path, export=Exports())
    assert (store.changes, listed(tmp_path)) == ([], [])


async def test_the_next_call_goes_on_with_what_was_made(tmp_path: Path):
    exports = Exports()
    async with open_store() as store:
        store.files = dict(FILES)
        store.faults, store.always = [Fault(), Fault(cut=1_500_000)], Fault(cut=0)
        with pytest.raises(DownloadError):
            await fetch(store, tmp_path, export=exports, way="files")
        assert DELETED not in store.changes
        assert listed(tmp_path) == [f".{TARGET}.partial"]
        store.always = None
        store.asked.clear()
        store.changes.clear()
        done = await fetch(store, tmp_path, export=exports, way="files")
        assert "bytes=1500000-" in store.ranges_asked()
        assert (exports.of, store.changes) == ([WEIGHTS], [KEPT, DELETED])
        assert contents(done.destination) == FILES


async def test_what_was_made_and_is_gone_is_made_anew(tmp_path: Path):
    exports = Exports()
    async with open_store() as store:
        store.files = dict(FILES)
        store.always = Fault(cut=0)
        with pytest.raises(DownloadError):
            await fetch(store, tmp_path, export=exports, way="files")
        store.always, store.gone = None, True
        done = await fetch(store, tmp_path, export=exports, way="files")
    assert exports.of[-1] == WEIGHTS
    assert len(exports.of) > 1
    assert contents(done.destination) == FILES


async def test_urls_that_are_over_soon_are_asked_for_anew_and_the_files_kept(tmp_path: Path):
    async with open_store() as store:
        store.files = dict(FILES)
        store.expires = (datetime.now(UTC) + timedelta(minutes=4)).isoformat()
        await fetch(store, tmp_path, export=Exports(), way="files")
    assert len(store.questions) == 1 + len(FILES)
    assert store.changes == [KEPT] * len(FILES) + [DELETED]


@pytest.mark.parametrize(
    ("expires", "refused"), [("2000-01-01T00:00:00Z", 0), ("2100-01-01T00:00:00Z", 1)], ids=["ahead", "behind"]
)
async def test_whatever_time_this_machine_says_it_is_the_files_come(expires: str, refused: int, tmp_path: Path):
    async with open_store() as store:
        store.files = dict(FILES)
        store.expires = expires
        store.faults = [Fault(status=403)] * refused
        done = await fetch(store, tmp_path, export=Exports(), way="files")
    assert contents(done.destination) == FILES


async def test_what_is_no_good_is_deleted_at_the_server_and_here(tmp_path: Path):
    async with open_store() as store:
        store.files = dict(FILES)
        with pytest.raises(ArchiveError):
            await fetch(store, tmp_path, export=Exports(), way="files", bounds=ArchiveBounds(members=2))
    assert (store.changes, listed(tmp_path)) == ([DELETED], [])


@pytest.mark.parametrize(
    ("path", "way", "words"),
    [
        (WEIGHTS, "tar", "way: is 'tar'"),
        (WEIGHTS, ["files"], "way: is"),
        (WEIGHTS, "files", "have to be made"),
        (WEIGHTS.replace("/weights/", "/sampler_weights/"), "files", "an archive only"),
    ],
)
async def test_a_way_that_does_not_lead_there_is_refused_before_anything_is_asked(
    path: str, way: Any, words: str, tmp_path: Path
):
    async with open_store() as store:
        with pytest.raises(InvalidInput, match=words):
            await fetch(store, tmp_path, path, way=way)
    assert (store.questions, listed(tmp_path)) == ([], [])
