"""RestClient, and AdminClient, which has some of its calls since 0.38."""

from __future__ import annotations

from typing import Any

from tests.conformance.expectation import expects
from tests.conformance.expectations.service import SINCE_38, get_server_capabilities, is_telemetry
from tests.local.process import TINY

UNTIL_25 = ("0.25.0", "0.24.1")


def is_run(seen: Any, _version: str) -> None:
    """A run that has just saved a state and sampler weights."""
    assert [seen["id"], seen["last"], seen["last_sampler"]] == seen["expected"]
    assert (seen["base"], seen["rank"], seen["is_lora"], seen["corrupted"]) == (TINY, 4, True, False)
    assert seen["owner"]
    assert 0.0 <= seen["age"] < 3600.0


expects("RestClient.get_training_run")(is_run)
expects("RestClient.get_training_run_by_tinker_path")(is_run)


@expects("RestClient.get_weights_info_by_tinker_path")
def get_weights_info_by_tinker_path(seen: Any, _version: str) -> None:
    assert seen == {"base": TINY, "is_lora": True, "rank": 4, "mlp": True}


@expects("RestClient.list_training_runs")
def list_training_runs(seen: Any, _version: str) -> None:
    first, second = seen["pages"]
    assert first == [seen["made"][2], seen["made"][1]]  # the newest first
    assert second[0] == seen["made"][0]
    assert seen["cursors"] == [[0, 2], [2, 2]]
    assert seen["total"] >= 3
    assert seen["accessible"] == 1


@expects("RestClient.list_checkpoints")
def list_checkpoints(seen: Any, _version: str) -> None:
    found = {checkpoint["path"]: checkpoint for checkpoint in seen["found"]}
    state, sampler = (found[path] for path in seen["expected"])
    assert len(found) == 2
    assert (state["id"], state["type"]) == ("weights/state", "training")
    assert (sampler["id"], sampler["type"]) == ("sampler_weights/sampler", "sampler")
    assert state["size"] > sampler["size"] > 0  # the optimizer's state is in it, too
    assert state["time"] <= sampler["time"]
    assert all((each["public"], each["expires"]) == (False, None) for each in found.values())


@expects("RestClient.list_user_checkpoints")
def list_user_checkpoints(seen: Any, _version: str) -> None:
    first, second = seen["pages"]
    assert [*first, *second][:4] == seen["made"][::-1]  # the newest first
    assert seen["cursor"] == [3, 3]
    assert seen["total"] >= 4


def is_archive(seen: Any, _version: str) -> None:
    """What lies at the URL is an adapter in the form of PEFT."""
    assert {"adapter_config.json", "adapter_model.safetensors"} <= set(seen["names"])
    assert (seen["rank"], seen["base"]) == (4, TINY)
    assert 0.0 < seen["lasts"] <= 86_400.0


expects("RestClient.get_checkpoint_archive_url", UNTIL_25)(is_archive)
expects("RestClient.get_checkpoint_archive_url_from_tinker_path", UNTIL_25)(is_archive)


@expects("RestClient.get_external_weights_urls", SINCE_38)
def get_external_weights_urls(seen: Any, version: str) -> None:
    is_archive(seen, version)
    assert seen["header"]


def is_deleted(seen: Any, _version: str) -> None:
    """That checkpoint is gone, and no other."""
    assert seen == {"before": True, "after": False, "others": True}


expects("RestClient.delete_checkpoint")(is_deleted)
expects("RestClient.delete_checkpoint_from_tinker_path")(is_deleted)


@expects("RestClient.publish_checkpoint_from_tinker_path")
def publish_checkpoint_from_tinker_path(seen: Any, _version: str) -> None:
    assert seen == {"before": False, "after": True}


@expects("RestClient.unpublish_checkpoint_from_tinker_path")
def unpublish_checkpoint_from_tinker_path(seen: Any, _version: str) -> None:
    assert seen == {"before": True, "after": False}


@expects("RestClient.set_checkpoint_ttl_from_tinker_path")
def set_checkpoint_ttl_from_tinker_path(seen: Any, _version: str) -> None:
    assert (seen["before"], seen["removed"]) == (None, None)
    assert 3600.0 < seen["lasts"] <= 7200.0


@expects("RestClient.get_session")
def get_session(seen: Any, version: str) -> None:
    assert (seen["run"], seen["sampler"]) == (True, True)
    assert seen["metadata"] == ({"purpose": "conformance"} if version == "0.38.0" else None)


@expects("RestClient.list_sessions")
def list_sessions(seen: Any, _version: str) -> None:
    assert seen == {"mine": True, "strings": True, "beyond": []}


@expects("RestClient.assign_session_project")
def assign_session_project(seen: Any, _version: str) -> None:
    assert seen == {"there": True, "shared": False}


@expects("RestClient.export_session_trace")
def export_session_trace(seen: Any, _version: str) -> None:
    assert seen["size"] > 0
    assert seen["run"]
    assert seen["calls"]


@expects("RestClient.whoami")
def whoami(seen: Any, version: str) -> None:
    assert seen["user"].startswith("key-")
    assert seen["org"] == ("tml:organization:local" if version == "0.38.0" else None)


@expects("RestClient.get_sampler")
def get_sampler(seen: Any, _version: str) -> None:
    assert seen["id"][0] == seen["id"][1]
    assert seen["path"][0] == seen["path"][1]
    assert seen["base"] == TINY


expects("RestClient.get_telemetry")(is_telemetry)
expects("AdminClient.get_telemetry", SINCE_38)(is_telemetry)
expects("RestClient.get_server_capabilities", SINCE_38)(get_server_capabilities)


@expects("RestClient.copy_weights", SINCE_38)
def copy_weights(seen: Any, _version: str) -> None:
    assert seen["copy"] != seen["source"]
    assert "/weights/" in seen["copy"]
    assert seen["copied"] == seen["original"]
    assert seen["listed"]


@expects("RestClient.search_sessions", SINCE_38)
def search_sessions(seen: Any, _version: str) -> None:
    first, second, third = seen["made"]
    assert seen["pages"] == [[third, second], [first]]
    assert seen["named"] == sorted(seen["made"])
    assert seen["active"] == sorted([second, third])
    assert seen["status"] == {"type": "client_finished", "reason": {"type": "success"}, "detail": "done"}
    assert seen["display_name"][0] == seen["display_name"][1]


def is_usage(seen: Any, _version: str) -> None:
    """Tokens that were trained and sampled, by the hour."""
    assert {"training", "sampling_prefill", "sampling_sample"} <= set(seen["kinds"])
    assert seen["trained"] >= 8
    assert seen["models"] == [TINY]
    assert seen["hours"] == [3600.0]
    assert seen["session"] == {"purpose": "conformance"}


expects("RestClient.get_billing_usage")(is_usage)
expects("AdminClient.get_billing_usage", SINCE_38)(is_usage)


def is_storage(seen: Any, _version: str) -> None:
    """All bytes of all checkpoints."""
    assert seen["bytes"] == seen["sizes"] > 0
    assert seen["count"] > 0


expects("RestClient.get_current_checkpoint_storage_usage", SINCE_38)(is_storage)
expects("AdminClient.get_current_checkpoint_storage_usage", SINCE_38)(is_storage)


def is_audited(seen: Any, _version: str) -> None:
    """What was done to the checkpoint, and nothing of a day long ago."""
    told = " ".join(seen["events"])
    assert all(word in told for word in ("publish", "delete"))
    assert seen["run"] == [seen["run_id"]]
    assert seen["empty"] == 0


expects("RestClient.get_audit_log")(is_audited)
expects("AdminClient.get_audit_log", SINCE_38)(is_audited)
