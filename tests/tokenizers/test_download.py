"""Tokenizers of the hub: a file of it is used only when it is whole."""

from __future__ import annotations

import hashlib
import os
import pickle
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

import pytest

from tests.cli.processes import environment
from tests.tokenizers.stand_in import COMMIT, PACKAGED, HubStandIn, git_digest, open_hub
from tinker_actors.config import Secret
from tinker_actors.errors import InvalidInput
from tinker_actors.tokenizers import Hub, hub_file, named_tokenizer, tokenizer_for

SECRET = "hf_planted0123456789"


@pytest.fixture
def hub() -> Generator[HubStandIn]:
    with open_hub() as opened:
        yield opened


def asking(hub: HubStandIn, tmp_path: Path, token: str | None = None) -> Hub:
    return Hub(endpoint=hub.url, cache=tmp_path / "cache", token=None if token is None else Secret(token))


def test_a_tokenizer_is_downloaded_once_and_kept(hub: HubStandIn, tmp_path: Path):
    hub.files["org/name/tokenizer.json"] = PACKAGED
    for name in ("org/name", "org/name:tuned", "org/name/third:part"):
        tokenizer = tokenizer_for(name, hub=asking(hub, tmp_path))
        assert tokenizer.decode(tokenizer.encode("ab")) == "ab"
    named_tokenizer("org/name", hub=asking(hub, tmp_path, SECRET))
    assert hub.downloads == ["tokenizer.json"]
    assert {(repo, revision) for _, repo, revision, _ in hub.asked} == {("org/name", "main")}
    assert hub.tokens[-1] == f"Bearer {SECRET}"
    assert tokenizer_for("org/name", revision=COMMIT, hub=asking(hub, tmp_path)).vocab_size


def test_llama_3_has_a_tokenizer_of_another_name(hub: HubStandIn, tmp_path: Path):
    hub.files["thinkingmachineslabinc/meta-llama-3-tokenizer/tokenizer.json"] = PACKAGED
    tokenizer = tokenizer_for("meta-llama/Llama-3.1-8B-Instruct:tuned", hub=asking(hub, tmp_path))
    assert tokenizer.decode(tokenizer.encode("ab")) == "ab"


@pytest.mark.parametrize("name", ["org/none", "org/name"])
def test_what_the_hub_does_not_have_is_told_without_the_token(name: str, hub: HubStandIn, tmp_path: Path):
    hub.files["org/name/README.md"] = b"#"
    with pytest.raises(InvalidInput, match=f"there is none for '{name}'") as caught:
        tokenizer_for(name, hub=asking(hub, tmp_path, SECRET))
    assert SECRET not in str(caught.value)
    assert caught.value.__context__ is None


def test_an_interrupted_download_is_never_trusted(hub: HubStandIn, tmp_path: Path):
    hub.files["org/name/tokenizer.json"] = PACKAGED
    hub.cut = True
    with pytest.raises(InvalidInput, match="there is none for 'org/name'"):
        tokenizer_for("org/name", hub=asking(hub, tmp_path))
    hub.cut = False
    assert hub_file("org/name", "tokenizer.json", asking(hub, tmp_path)).read_bytes() == PACKAGED


def test_other_bytes_than_the_digest_says_are_downloaded_anew_and_then_refused(hub: HubStandIn, tmp_path: Path):
    hub.files["org/name/tokenizer.json"] = PACKAGED
    hub.altered = 1
    hub.digest = lambda content: hashlib.sha256(content).hexdigest()
    assert hub_file("org/name", "tokenizer.json", asking(hub, tmp_path)).read_bytes() == PACKAGED
    assert len(hub.downloads) == 2
    hub.files["org/other/tokenizer.json"] = PACKAGED
    hub.altered, hub.digest = 2, git_digest
    with pytest.raises(InvalidInput, match="has not the digest"):
        tokenizer_for("org/other", hub=asking(hub, tmp_path))
    assert tokenizer_for("org/other", hub=asking(hub, tmp_path)).vocab_size


def test_a_kept_file_that_was_damaged_is_downloaded_anew(hub: HubStandIn, tmp_path: Path):
    hub.files["org/name/tokenizer.json"] = PACKAGED
    path = hub_file("org/name", "tokenizer.json", asking(hub, tmp_path))
    path.resolve().write_bytes(PACKAGED[:1000])
    assert hub_file("org/name", "tokenizer.json", asking(hub, tmp_path)).read_bytes() == PACKAGED
    assert len(hub.downloads) == 2


@pytest.mark.process
def test_a_process_that_is_killed_half_way_leaves_nothing_that_is_trusted(hub: HubStandIn, tmp_path: Path):
    hub.files["org/name/tokenizer.json"] = PACKAGED
    hub.slow.set()
    code = "from tinker_actors.tokenizers import tokenizer_for; tokenizer_for('org/name')"
    variables = environment(HF_ENDPOINT=hub.url, HF_HUB_CACHE=str(tmp_path / "cache"), HF_HOME=str(tmp_path))
    with subprocess.Popen([sys.executable, "-c", code], env=variables, stderr=subprocess.DEVNULL) as process:
        assert hub.half_way.wait(60)
        process.kill()
    assert not list((tmp_path / "cache").rglob("tokenizer.json"))
    hub.slow.clear()
    assert hub_file("org/name", "tokenizer.json", asking(hub, tmp_path)).read_bytes() == PACKAGED


@pytest.mark.process
def test_tokenizers_work_in_other_processes():
    tokenizer = tokenizer_for("tinker-actors/tiny")
    code = "import pickle, sys; t = pickle.load(sys.stdin.buffer); print(t.decode(t.encode('Pig Latin')))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=pickle.dumps(tokenizer),
        env=environment(),
        capture_output=True,
        check=True,
    )
    assert done.stdout.decode().split(os.linesep)[0] == "Pig Latin"
