"""The packaged models are what their manifest says."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from hashlib import sha256
from importlib.resources import files
from pathlib import Path

import pytest

from tinker_actors.errors import DecodeError, InvalidInput
from tinker_actors.local.engine import BASE_MODELS, BASE_S, TINY, load_base
from tinker_actors.local.engine import base as module

FOLDER = files("tinker_actors.local") / "base"


def test_manifest_names_sizes_and_digests() -> None:
    manifest = json.loads((FOLDER / "manifest.json").read_text())
    assert manifest["name"] == BASE_S
    assert manifest["license"] == "Apache-2.0"
    assert manifest["made_by"]["held_out_task_accuracy"] >= 0.95
    for name, expected in manifest["files"].items():
        content = (FOLDER / name).read_bytes()
        assert len(content) == expected["bytes"]
        assert sha256(content).hexdigest() == expected["sha256"]
    assert sum(entry["bytes"] for entry in manifest["files"].values()) < 4_000_000


def test_base_s_has_the_documented_shape() -> None:
    base = load_base(BASE_S)
    assert base.name == BASE_S
    assert (base.config.d_model, base.config.n_layers, base.config.vocab_size) == (96, 4, 259)
    assert base.config.max_context == 256
    assert base.eos_id == 2
    assert base.weights.embed.dtype == "float32"


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_a_damaged_file_is_noticed(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "base"
    shutil.copytree(str(FOLDER), folder)
    damaged = bytearray((folder / name).read_bytes())
    damaged[-2] ^= 1
    (folder / name).write_bytes(damaged)
    with pytest.raises(DecodeError, match=f"{name} of tinker-actors/base-s is damaged"):
        module.read_base(folder)


def test_tiny_is_the_same_everywhere() -> None:
    base = load_base(TINY)
    assert (base.config.d_model, base.config.n_layers, base.config.vocab_size) == (8, 1, 32)
    assert base.config.max_context == 64
    digest = sha256(base.weights.embed.tobytes())
    for array in base.weights.layers[0]:
        digest.update(array.tobytes())
    assert digest.hexdigest() == "404a137f10719af4efd5966a5ebc5ded697f5fdba327a2e0ffa564fb4dc8d03f"


def test_unknown_names() -> None:
    with pytest.raises(InvalidInput, match=BASE_MODELS[0]):
        load_base("some/model")


def test_importing_the_local_server_does_not_load_a_model() -> None:
    """numpy and the weights come with the engine, not with the package."""
    program = "import sys, tinker_actors.local; print('tinker_actors.local.engine' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
