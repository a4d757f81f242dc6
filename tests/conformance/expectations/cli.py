"""The commands of ``tinker``."""

from __future__ import annotations

from typing import Any

from tests.conformance.expectation import expects
from tests.conformance.expectations.service import SINCE_38
from tests.local.process import TINY


@expects("tinker version")
def version(seen: Any, version: str) -> None:
    assert seen == {"text": f"tinker {version}", "version": version}


@expects("tinker auth login", SINCE_38)
def login(seen: Any, _version: str) -> None:
    assert "@localhost (local). Stored API key 'key-" in seen["text"]
    assert seen["secret"] not in seen["text"]


@expects("tinker auth logout", SINCE_38)
def logout(seen: Any, _version: str) -> None:
    assert (seen["before"], seen["after"]) == (1, 0)
    assert "Removed credential" in seen["text"]


@expects("tinker auth status", SINCE_38)
def status(seen: Any, _version: str) -> None:
    assert seen == "Credentials available: yes\nTinker accessible: yes\n"


@expects("tinker auth whoami", SINCE_38)
def whoami(seen: Any, _version: str) -> None:
    assert seen["user_urn"].startswith("key-")
    assert seen["org_urn"] == "tml:organization:local"


@expects("tinker model list", SINCE_38)
def model_list(seen: Any, _version: str) -> None:
    assert [model["model_name"] for model in seen["all"]["models"]] == [TINY, "tinker-actors/base-s"]
    (tiny,) = seen["some"]["models"]
    assert tiny == {"model_name": TINY, "max_context_length": 64, "trainable": True, "sampleable": True}
    assert TINY in seen["table"]


@expects("tinker run list")
def run_list(seen: Any, _version: str) -> None:
    assert seen["newest"] == seen["made"]
    assert seen["all"] == seen["total"]
    assert f"2 training runs ({seen['total'] - 2} more not shown" in seen["table"]


@expects("tinker run info")
def run_info(seen: Any, _version: str) -> None:
    run, state = seen["made"]
    found = seen["found"]
    assert (found["training_run_id"], found["base_model"], found["lora_rank"]) == (run, TINY, 4)
    assert found["last_checkpoint"]["tinker_path"] == state
    assert run in seen["table"]
    assert "Yes (Rank 4)" in seen["table"]


@expects("tinker checkpoint list")
def checkpoint_list(seen: Any, _version: str) -> None:
    assert sorted(found["tinker_path"] for found in seen["of_run"]["checkpoints"]) == sorted(seen["made"])
    assert [found["tinker_path"] for found in seen["newest"]["checkpoints"]] == seen["made"][::-1]
    assert "2 checkpoints" in seen["table"]


@expects("tinker checkpoint info")
def checkpoint_info(seen: Any, _version: str) -> None:
    found = seen["found"]
    assert (found["tinker_path"], found["checkpoint_id"]) == (seen["path"], "weights/kept")
    assert (found["is_lora"], found["lora_rank"], found["public"]) == (True, 4, False)
    assert "weights/kept" in seen["table"]


@expects("tinker checkpoint publish")
def publish(seen: Any, _version: str) -> None:
    assert seen == {"text": "", "public": True}


@expects("tinker checkpoint unpublish")
def unpublish(seen: Any, _version: str) -> None:
    assert seen == {"text": "", "public": False}


@expects("tinker checkpoint set-ttl")
def set_ttl(seen: Any, _version: str) -> None:
    assert 3600.0 < seen["lasts"] <= 7200.0
    assert seen["removed"] is None


@expects("tinker checkpoint delete")
def delete(seen: Any, _version: str) -> None:
    assert seen["paths"] == [False, False]
    assert seen["by_path"] == [2, 1]  # one path was given twice
    assert seen["by_run"] == {"deleted_count": 1, "failed": []}
    assert seen["left"] == [seen["state"]]
    assert "Deletion cancelled." in seen["refused"]


@expects("tinker checkpoint download")
def download(seen: Any, _version: str) -> None:
    assert seen["folder"][0] == seen["folder"][1]
    assert {"adapter_config.json", "adapter_model.safetensors"} <= set(seen["files"])
    assert seen["rank"] == 4
    assert seen["size"][0] == seen["size"][1] > 0
    assert seen["listed"] == []  # what 0.38 exports for the download, it deletes


@expects("tinker checkpoint push-hf")
def push_hf(seen: Any, _version: str) -> None:
    assert seen["found"] == {"checkpoint_path": seen["path"], "repo_id": "somebody/adapter", "public": False}
    assert seen["made"] == ["somebody/adapter"]
    assert {"README.md", "adapter_config.json", "adapter_model.safetensors"} <= set(seen["files"])


@expects("tinker session export-trace")
def export_trace(seen: Any, _version: str) -> None:
    assert seen["size"][0] == seen["size"][1] > 0
    assert seen["fetched"]


@expects("tinker billing usage")
def billing_usage(seen: Any, _version: str) -> None:
    assert seen["trained"] >= 8
    assert seen["rows"][0] == seen["rows"][1] > 0
    assert seen["session"]


@expects("tinker billing checkpoint-storage", SINCE_38)
def checkpoint_storage(seen: Any, _version: str) -> None:
    assert seen["bytes"] == seen["sizes"] > 0
