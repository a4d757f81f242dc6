"""The JSON bodies of requests, shared by the client's endpoints and the local server.

Servers of the open family ignore unknown keys and never need the constant ``type`` tag, so ours does too; the
client sends it because old servers expect it. Unset optional keys are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from tinker_actors.types.datum import Datum
from tinker_actors.types.model_input import ModelInput
from tinker_actors.types.sampling import SamplingParams
from tinker_actors.types.tensor import TensorData
from tinker_actors.types.training import AdamParams, LoraConfig

__all__ = [
    "CreateModelRequest",
    "CreateSamplingSessionRequest",
    "CreateSessionRequest",
    "FinishSessionRequest",
    "ForwardBackwardRequest",
    "LoadWeightsRequest",
    "ModelIdRequest",
    "OptimStepRequest",
    "RetrieveFutureRequest",
    "SampleRequest",
    "SaveWeightsForSamplerRequest",
    "SaveWeightsRequest",
    "SessionIdRequest",
    "TinkerPathRequest",
    "UnloadModelRequest",
]


class CreateSessionRequest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """POST /create_session."""

    tags: tuple[str, ...]
    user_metadata: Mapping[str, str]
    sdk_version: str
    project_id: str | None = None
    display_name: str | None = None


class SessionIdRequest(msgspec.Struct, frozen=True, kw_only=True):
    """POST /session_heartbeat."""

    session_id: str


class FinishSessionRequest(msgspec.Struct, frozen=True, kw_only=True):
    """POST /sessions/{id}/finish; ``reason`` is {"type": "success" | "errored" | "interrupted"}."""

    reason: Mapping[str, str]
    detail: str | None = None


class CreateModelRequest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """POST /create_model."""

    session_id: str
    model_seq_id: int
    base_model: str
    lora_config: LoraConfig | None = None
    user_metadata: Mapping[str, str] | None = None
    optimizer_config: Mapping[str, Any] | None = None


class ModelIdRequest(msgspec.Struct, frozen=True, kw_only=True):
    """POST /get_info."""

    model_id: str


class UnloadModelRequest(msgspec.Struct, frozen=True, kw_only=True):
    """POST /unload_model (servers up to SDK 0.25)."""

    model_id: str


class ForwardBackwardRequest(msgspec.Struct, frozen=True, kw_only=True):
    """POST /forward_backward: protobuf from SDK 0.25 on, JSON (under another shape) before."""

    model_id: str
    seq_id: int
    data: tuple[Datum, ...]
    loss_fn: str
    loss_fn_config: Mapping[str, float | str] = {}
    forward_only: bool = False


class OptimStepRequest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """POST /optim_step; one of the two parameter sets."""

    model_id: str
    seq_id: int
    adam_params: AdamParams | None = None
    optimizer_params: Mapping[str, Any] | None = None


class SaveWeightsRequest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """POST /save_weights; ``path`` is the checkpoint's name."""

    model_id: str
    seq_id: int | None = None
    path: str | None = None
    ttl_seconds: int | None = None
    overwrite: bool = False
    user_metadata: Mapping[str, str] | None = None


class SaveWeightsForSamplerRequest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """POST /save_weights_for_sampler; either ``path`` (a name) or ``sampling_session_seq_id``."""

    model_id: str
    seq_id: int | None = None
    path: str | None = None
    sampling_session_seq_id: int | None = None
    kind: str = "snapshot"
    ttl_seconds: int | None = None
    user_metadata: Mapping[str, str] | None = None


class LoadWeightsRequest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """POST /load_weights: into a model (by its id and a seq_id) or creating one (by session and model_seq_id)."""

    path: str
    optimizer: bool
    model_id: str | None = None
    seq_id: int | None = None
    session_id: str | None = None
    model_seq_id: int | None = None
    base_model: str | None = None
    user_metadata: Mapping[str, str] | None = None
    weights_access_token: str | None = None
    optimizer_config: Mapping[str, Any] | None = None

    def __repr__(self) -> str:
        return f"LoadWeightsRequest({self.path!r})"  # a token is nobody's to read


class CreateSamplingSessionRequest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """POST /create_sampling_session."""

    session_id: str
    sampling_session_seq_id: int
    base_model: str | None = None
    model_path: str | None = None


class SampleRequest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """POST /asample.

    ``target_prompt_logprobs`` are token ids, [prompt length - 1, K], -1 for none, whose log-probabilities are wanted;
    ``prompt_alt_tokens_k`` is how many other tokens to draw at each prompt position; ``prompt_logprobs_last_n`` asks
    for those of the last n positions only; ``record_stability_info`` lets a later stable_reinforce use the sample.
    """

    prompt: ModelInput
    sampling_params: SamplingParams
    num_samples: int = 1
    sampling_session_id: str | None = None
    seq_id: int | None = None
    base_model: str | None = None
    model_path: str | None = None
    prompt_logprobs: bool | None = None
    topk_prompt_logprobs: int = 0
    topk_sample_logprobs: int = 0
    target_prompt_logprobs: TensorData | None = None
    prompt_alt_tokens_k: int = 0
    prompt_logprobs_last_n: int | None = None
    record_stability_info: bool = False


class RetrieveFutureRequest(msgspec.Struct, frozen=True, kw_only=True):
    """POST /retrieve_future."""

    request_id: str
    allow_metadata_only: bool = False


class TinkerPathRequest(msgspec.Struct, frozen=True, kw_only=True):
    """POST /weights_info."""

    tinker_path: str
