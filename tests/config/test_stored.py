"""The file of stored credentials: the last source of a key, and only if nobody else can read it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinker_actors.config import Config, Secret
from tinker_actors.config import stored as stored_module
from tinker_actors.errors import CredentialError

KEYS = {
    "k1": {"type": "manual", "key": "tml-planted-1", "name": "one"},
    "k2": {"type": "generated", "key": "tml-planted-2", "name": "two", "details": {"org_details": {"name": "o"}}},
}


def store(home: Path, content: Any, mode: int = 0o600) -> Path:
    folder = home / ".tinker"
    folder.mkdir(mode=0o700, exist_ok=True)
    path = folder / "credentials.json"
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    path.chmod(mode)
    return path


def load(home: Path, **environ: str) -> Config:
    return Config.load(environ={"HOME": str(home)} | environ)


def test_the_default_key_is_used_when_there_is_no_other_source(tmp_path: Path):
    store(tmp_path, {"version": 1, "default": "k2", "keys": KEYS})
    assert load(tmp_path).api_key == Secret("tml-planted-2")
    assert load(tmp_path, TINKER_API_KEY="tml-env").api_key == Secret("tml-env")
    by_command = load(tmp_path, TINKER_CREDENTIAL_CMD="print-key")
    assert (by_command.api_key, by_command.credential_cmd) == (None, Secret("print-key"))


@pytest.mark.parametrize(
    "content", [{"version": 1, "keys": KEYS}, {"version": 1, "default": "k9", "keys": KEYS}, {"version": 1}, None]
)
def test_without_a_default_the_error_names_every_source(content: Any, tmp_path: Path):
    if content is not None:
        store(tmp_path, content)
    with pytest.raises(CredentialError, match=r"TINKER_API_KEY.*TINKER_CREDENTIAL_CMD.*credentials\.json"):
        load(tmp_path)


@pytest.mark.skipif(os.name != "posix", reason="modes of files are POSIX's")
@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620, 0o602, 0o610])
def test_a_file_that_others_may_open_is_refused(mode: int, tmp_path: Path):
    path = store(tmp_path, {"version": 1, "default": "k1", "keys": KEYS}, mode)
    with pytest.raises(CredentialError, match="chmod 600") as refused:
        load(tmp_path)
    assert refused.value.source == str(path)
    assert "planted" not in str(refused.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no stored credentials"),
        (b"{", "no stored credentials"),
        (b"\xff", "no stored credentials"),
        (b"[]", "no stored credentials"),
        ({"version": 2, "default": "k1", "keys": KEYS}, "version 2"),
        ({"version": 1, "default": "k1", "keys": {"k1": {"key": 5}}}, "no stored credentials"),
        ({"version": 1, "default": "k1", "keys": {"k1": {"key": "sk-planted"}}}, "does not start with 'tml-'"),
        (b" " * (1 << 20) + b"{}", "more than"),
    ],
)
def test_a_damaged_file_is_one_error_that_shows_nothing_of_it(content: Any, words: str, tmp_path: Path):
    path = store(tmp_path, content)
    with pytest.raises(CredentialError, match=words) as refused:
        load(tmp_path)
    assert str(path) in str(refused.value)
    assert "planted" not in str(refused.value)


@given(content=st.binary(max_size=200))
def test_any_bytes_give_a_key_or_an_error(content: bytes, tmp_path_factory: pytest.TempPathFactory):
    home = tmp_path_factory.getbasetemp() / "home"
    home.mkdir(exist_ok=True)
    store(home, content)
    with pytest.raises(CredentialError):
        stored_module.stored_key({"HOME": str(home)})
