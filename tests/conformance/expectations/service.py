"""ServiceClient."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conformance.expectation import expects
from tests.local.process import TINY

SINCE_38 = ("0.38.0",)
CONSOLE = "https://tinker.thinkingmachines.ai"
BASE_LOGPROBS = [-4.935646, -2.918206, -2.918358, -4.817003, -2.391992, -3.624851, -4.001768, -3.393016]
"""The tiny base model's, of the example's targets."""
TRAINED_LOGPROBS = [-3.728270, -2.237929, -2.158319, -3.802375, -2.012408, -4.133648, -2.433775, -2.406504]
"""After one step."""


def close(values: list[float]) -> Any:
    """To the digits that float32 has."""
    return pytest.approx(values, rel=1e-5, abs=1e-6)


def is_model(seen: Any) -> None:
    """A model of rank 4 on the tiny base, in a training client."""
    assert seen["client"] == "TrainingClient"
    assert seen["base"] == TINY
    assert (seen["is_lora"], seen["rank"]) == (True, 4)


@expects("ServiceClient.create_lora_training_client")
def create_lora_training_client(seen: Any, _version: str) -> None:
    is_model(seen)
    session, kind, number = seen["model_id"].split(":")
    assert (session, kind) == (seen["session"], "train")
    assert number.isdecimal()
    assert seen["metadata"] == {"of": "conformance"}
    assert seen["logprobs"] == close(BASE_LOGPROBS)  # a fresh adapter changes nothing


def _from_state(seen: Any) -> None:
    is_model(seen)
    assert seen["another"]
    assert seen["loaded"] == seen["saved"] == close(TRAINED_LOGPROBS)
    assert seen["metadata"] == {"of": "conformance"}


@expects("ServiceClient.create_training_client_from_state")
def create_training_client_from_state(seen: Any, _version: str) -> None:
    _from_state(seen)
    assert seen["made_after"] != seen["original_after"]  # the optimizer starts anew


@expects("ServiceClient.create_training_client_from_state_with_optimizer")
def create_training_client_from_state_with_optimizer(seen: Any, _version: str) -> None:
    _from_state(seen)
    assert seen["made_after"] == seen["original_after"]


@expects("ServiceClient.create_sampling_client")
def create_sampling_client(seen: Any, _version: str) -> None:
    assert seen["clients"] == ["SamplingClient", "SamplingClient"]
    assert seen["models"] == [TINY, TINY]
    first, *rest = seen["base"]
    assert first is None
    assert rest == close(BASE_LOGPROBS[:3])
    assert seen["named"] == seen["trained"] != seen["base"]


@expects("ServiceClient.create_rest_client")
def create_rest_client(seen: Any, _version: str) -> None:
    assert seen == {"client": "RestClient", "runs": 1}


@expects("ServiceClient.get_server_capabilities")
def get_server_capabilities(seen: Any, _version: str) -> None:
    offered = {model["model_name"]: model for model in seen}
    assert list(offered) == [TINY, "tinker-actors/base-s"]
    assert offered[TINY]["max_context_length"] == 64
    assert offered["tinker-actors/base-s"]["max_context_length"] == 256
    assert all(model.get("trainable", True) and model.get("sampleable", True) for model in seen)


@expects("ServiceClient.holder")
def holder(seen: Any, _version: str) -> None:
    assert seen["session"].startswith("sess-")
    assert all(run.startswith(f"{seen['session']}:train:") for run in seen["known"])


def is_telemetry(seen: Any, _version: str) -> None:
    """Something was reported, and has been sent."""
    assert seen == {"kind": "Telemetry", "logged": True, "sent": True}


expects("ServiceClient.get_telemetry")(is_telemetry)


@expects("ServiceClient.get_console_url", SINCE_38)
def get_console_url(seen: Any, _version: str) -> None:
    assert seen["url"] == f"{CONSOLE}/sessions/{seen['session']}"


@expects("ServiceClient.close", SINCE_38)
def finished(seen: Any, _version: str) -> None:
    (status,) = seen["statuses"]
    assert status == {"type": "client_finished", "reason": {"type": "errored"}, "detail": "because of the test"}
    assert seen["before"] == 9
    code, text = seen["after"]
    assert code == 410
    assert "finished" in text


@expects("ServiceClient.copy_weights", SINCE_38)
def copy_weights(seen: Any, _version: str) -> None:
    assert seen["copy"] != seen["source"]
    assert "/weights/" in seen["copy"]
    assert seen["copied"] == seen["original"]


@expects("ServiceClient.create_custom_loss", SINCE_38)
def create_custom_loss(seen: Any, _version: str) -> None:
    assert seen == "LossHandle"
