"""Tokenizers of a file or folder that the user names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tinker_actors.errors import InvalidInput
from tinker_actors.tokenizers import named_tokenizer, tokenizer_for

PACKAGED = Path(__file__).parents[2] / "tinker_actors" / "local" / "base" / "tokenizer.json"


@pytest.mark.parametrize("content", [b"no JSON", b"{}", b"\xff", b""])
def test_a_tokenizer_that_is_none_is_told(content: bytes, tmp_path: Path):
    (tmp_path / "tokenizer.json").write_bytes(content)
    for name in (tmp_path, tmp_path / "tokenizer.json"):
        with pytest.raises(InvalidInput, match="tokenizer") as caught:
            tokenizer_for(str(name))
        assert str(tmp_path) in caught.value.problem


@pytest.mark.parametrize("name", ["", None, 5, b"a", "\ud800"])
def test_what_is_no_name_is_told(name: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "tokenizer.json").write_bytes(PACKAGED.read_bytes())
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidInput, match="tokenizer"):
        tokenizer_for(name)


@pytest.mark.parametrize("name", ["a\0b", "../..", "no/such/folder/here", "a\\b"])
def test_a_name_of_nothing_is_told(name: str):
    with pytest.raises(InvalidInput, match="there is none for"):
        tokenizer_for(name)


def test_packaged_tokenizers_are_no_files_of_that_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "tinker-actors" / "tiny").mkdir(parents=True)
    (tmp_path / "tinker-actors" / "tiny" / "tokenizer.json").write_bytes(b"{}")
    monkeypatch.chdir(tmp_path)
    for load in (tokenizer_for, named_tokenizer):
        assert load("tinker-actors/tiny").decode(load("tinker-actors/tiny").encode("ab")) == "ab"
