"""Bytes that have arrived, and what they are of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tinker_actors.downloads.growing import Expected, GrowingFile
from tinker_actors.errors import InvalidInput

OLD, NEW = Expected('"v1"', 10), Expected('"v2"', 10)


def taken_up(folder: Path) -> GrowingFile:
    file = GrowingFile("name", folder / "parts", folder)
    file.take_up()
    return file


def test_what_has_arrived_is_found_again(tmp_path: Path):
    file = taken_up(tmp_path)
    assert (file.size, file.resumes_at, file.expected) == (0, 0, Expected())
    file.begin(OLD, at=0)
    file.write([b"1234", b"56"])
    again = taken_up(tmp_path)
    assert (again.size, again.resumes_at, again.expected) == (6, 6, OLD)
    again.begin(OLD, at=4)
    again.write([b"78"])
    assert again.path.read_bytes() == b"123478"
    again.write([b"90ab"])
    assert taken_up(tmp_path).resumes_at == 9  # of the whole, the last byte
    again.drop()
    assert (taken_up(tmp_path).size, again.size) == (0, 0)


def test_bytes_of_one_version_never_pass_for_those_of_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    file = taken_up(tmp_path)
    file.begin(OLD, at=0)
    file.write([b"123456"])
    opens = Path.open

    def fails(self: Path, mode: str = "r", *more: Any, **options: Any) -> Any:
        if mode == "ab":  # as if it ended right here
            raise OSError(5, "Input/output error")
        return opens(self, mode, *more, **options)

    monkeypatch.setattr(Path, "open", fails)
    with pytest.raises(InvalidInput, match="Input/output error"):
        file.begin(NEW, at=0)
    monkeypatch.undo()
    again = taken_up(tmp_path)
    assert again.size == 0 or again.expected == OLD


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"total": "x"}'])
def test_what_can_not_be_read_begins_anew(content: bytes, tmp_path: Path):
    file = taken_up(tmp_path)
    file.begin(OLD, at=0)
    file.write([b"123456"])
    file.path.with_suffix(".json").write_bytes(content)
    assert (taken_up(tmp_path).size, taken_up(tmp_path).expected) == (0, Expected())
