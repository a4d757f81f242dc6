"""TrainingClient."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.conformance.expectation import expects
from tests.conformance.expectations.service import (
    CONSOLE,
    SINCE_38,
    TRAINED_LOGPROBS,
    close,
    is_model,
    is_telemetry,
)


def _is_output(seen: Any) -> None:
    assert len(seen["logprobs"]) == 3
    assert all(row == close(TRAINED_LOGPROBS) for row in seen["logprobs"])
    assert seen["loss"] == pytest.approx(-np.sum(seen["logprobs"]), rel=1e-6)
    assert seen["tokens"] == 24


@expects("TrainingClient.forward")
def forward(seen: Any, _version: str) -> None:
    _is_output(seen)
    # without a gradient, only the momentum of the step before moves the weights
    assert sum(seen["after"]) == pytest.approx(sum(TRAINED_LOGPROBS), rel=0.1)


@expects("TrainingClient.forward_backward")
def forward_backward(seen: Any, _version: str) -> None:
    _is_output(seen)
    assert sum(seen["after"]) > sum(TRAINED_LOGPROBS) + 3.0


@expects("TrainingClient.forward_backward_custom")
def forward_backward_custom(seen: Any, version: str) -> None:
    metrics, before = seen["metrics"], np.array(seen["before"])
    assert metrics["squares:sum"] == pytest.approx(2 * np.square(before).sum(), rel=1e-5)
    surrogate = pytest.approx(4 * np.square(before).sum(), rel=1e-5)  # weights are -2 lp, the loss is -w lp
    if version == "0.38.0":
        assert metrics["loss:sum"] == metrics["squares:sum"]
        assert metrics["surrogate_loss:sum"] == surrogate
    else:
        assert metrics["loss:sum"] == surrogate
    assert seen["outputs"] == 2
    assert seen["after"] == close(seen["by_hand"])
    assert np.square(seen["after"]).sum() < np.square(before).sum()


@expects("TrainingClient.optim_step")
def optim_step(seen: Any, _version: str) -> None:
    assert seen["result"] == "OptimStepResponse"
    assert seen["metrics"]["step:max"] == 1.0
    assert seen["metrics"]["grad_norm:mean"] > 0.0
    assert sum(seen["after"]) > sum(seen["before"]) + 3.0


@expects("TrainingClient.save_state")
def save_state(seen: Any, _version: str) -> None:
    assert seen["paths"] == [seen["expected"]] * 2
    assert seen["listed"] == [seen["expected"]]
    assert seen["overwritten"] == seen["trained"] != close(TRAINED_LOGPROBS)


def _is_loaded(seen: Any) -> None:
    assert seen["result"] == "LoadWeightsResponse"
    assert seen["loaded"] == seen["saved"] == close(TRAINED_LOGPROBS)


@expects("TrainingClient.load_state")
def load_state(seen: Any, _version: str) -> None:
    _is_loaded(seen)
    assert seen["made_after"] != seen["original_after"]  # the optimizer starts anew


@expects("TrainingClient.load_state_with_optimizer")
def load_state_with_optimizer(seen: Any, _version: str) -> None:
    _is_loaded(seen)
    assert seen["made_after"] == seen["original_after"]


@expects("TrainingClient.save_weights_for_sampler")
def save_weights_for_sampler(seen: Any, _version: str) -> None:
    assert seen["path"] == seen["expected"]
    assert seen["sampled"] == close(seen["trained"])
    assert seen["trained"] == close(TRAINED_LOGPROBS)


@expects("TrainingClient.save_weights_external", SINCE_38)
def save_weights_external(seen: Any, _version: str) -> None:
    assert seen["path"] == seen["expected"]
    assert seen["listed"] == [[seen["expected"], "external"]]


@expects("TrainingClient.save_weights_and_get_sampling_client")
def save_weights_and_get_sampling_client(seen: Any, _version: str) -> None:
    assert seen["client"] == "SamplingClient"
    assert seen["sampled"] == close(seen["at_saving"])
    assert seen["at_saving"] == close(TRAINED_LOGPROBS)
    assert seen["later"] != close(TRAINED_LOGPROBS)


@expects("TrainingClient.create_sampling_client")
def create_sampling_client(seen: Any, _version: str) -> None:
    assert seen["client"] == "SamplingClient"
    assert seen["tokens"] == seen["known"]
    assert len(seen["tokens"]) == 4


@expects("TrainingClient.get_info")
def get_info(seen: Any, _version: str) -> None:
    is_model(seen)
    assert seen["result"] == "GetInfoResponse"
    assert seen["arch"] == "decoder-only transformer"
    assert ":train:" in seen["model_id"]


def is_tokenized(seen: Any, _version: str) -> None:
    """The packaged tokenizer came through the SDK's own way of loading one."""
    assert seen["text"] == "the quick banana"
    assert seen["tokens"] == [3 + byte for byte in b"the quick banana"]


expects("TrainingClient.get_tokenizer")(is_tokenized)
expects("TrainingClient.get_telemetry")(is_telemetry)


@expects("TrainingClient.get_console_url", SINCE_38)
def get_console_url(seen: Any, _version: str) -> None:
    assert seen["url"] == f"{CONSOLE}/training_runs/{seen['run']}"
