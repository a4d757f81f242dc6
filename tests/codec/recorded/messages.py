"""What the recorded bodies were made of: plain values for each kind of message, ours to choose.

Read by ``record.py`` in an environment of an official SDK, and so free of imports of this project.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

__all__ = ["FORWARD_BACKWARD", "FORWARD_BACKWARD_OUTPUTS", "REQUESTS", "RESULTS", "SAMPLE_RESPONSES"]

Values: TypeAlias = dict[str, Any]

TIME = "2026-11-24T01:59:48.980631Z"
_START = {
    "event": "SESSION_START",
    "event_id": "e-0",
    "event_session_index": 0,
    "severity": "INFO",
    "timestamp": TIME,
}
_END = _START | {"event": "SESSION_END", "event_id": "e-1", "event_session_index": 1, "duration": "0:00:05.100000"}
_EXCEPTION = _START | {
    "event": "UNHANDLED_EXCEPTION",
    "event_id": "e-2",
    "severity": "ERROR",
    "error_type": "ValueError",
    "error_message": 'no "such" thing \u2013 \u00fc',
    "traceback": "line 1\nline 2",
}
_GENERIC = _START | {
    "event": "GENERIC_EVENT",
    "event_name": "user_error",
    "event_data": {"status_code": 422, "x": None},
}
_BATCH = {"platform": "Linux", "sdk_version": "1.2.3", "session_id": "s", "process_uuid": "p"}

_TEXT: Values = {"type": "encoded_text", "tokens": [0, 1, 151_643, 2**31 - 1]}
_IMAGE: Values = {"type": "image", "data": "iVBORw0KGgo=", "format": "png", "expected_tokens": 3}
_POINTER: Values = {"type": "image_asset_pointer", "location": "https://h/a.jpeg", "format": "jpeg"}
_DMEL: Values = {"type": "dmel", "dmel": "AAICA////w=="}

# SDK's class, method of its client, the values; a class of None takes them as its arguments
REQUESTS: Sequence[tuple[str, str | None, str, Values]] = [
    ("ClientConfigRequest", "ClientConfigRequest", "service.client_config", {"sdk_version": "1.2.3"}),
    (
        "CreateSessionRequest",
        "CreateSessionRequest",
        "service.create_session",
        {"tags": ["a", "b"], "user_metadata": {"k": "v"}, "sdk_version": "1.2.3", "project_id": "p"},
    ),
    (
        "CreateSessionRequest",
        "CreateSessionRequest",
        "service.create_session",
        {"tags": [], "user_metadata": {}, "sdk_version": "1.2.3", "display_name": "mine"},
    ),
    ("SessionIdRequest", None, "service.session_heartbeat", {"session_id": "s"}),
    (
        "CreateSamplingSessionRequest",
        "CreateSamplingSessionRequest",
        "service.create_sampling_session",
        {"session_id": "s", "sampling_session_seq_id": 2, "model_path": "tinker://r/sampler_weights/a"},
    ),
    (
        "JoinSamplingSessionRequest",
        "JoinSamplingSessionRequest",
        "service.join_sampling_session",
        {"sampling_session_id": "s:sample:1"},
    ),
    (
        "CreateCustomLossRequest",
        "CreateCustomLossRequest",
        "service.create_custom_loss",
        {
            "session_id": "s",
            "custom_loss_seq_id": 0,
            "name": "mine",
            "inputs": [{"name": "logprobs", "rank": 1}],
            "graph": {
                "format": 1,
                "nodes": [
                    {"op": "placeholder", "name": "logprobs", "target": "logprobs", "args": [], "kwargs": {}},
                    {
                        "op": "call_method",
                        "name": "sum_1",
                        "target": "sum",
                        "args": [{"ref": "logprobs"}],
                        "kwargs": {},
                    },
                    {
                        "op": "output",
                        "name": "output",
                        "target": "output",
                        "args": [{"tuple": [{"ref": "sum_1"}, {"dict": {}}]}],
                        "kwargs": {},
                    },
                ],
            },
        },
    ),
    (
        "CreateModelRequest",
        "CreateModelRequest",
        "models.create",
        {
            "session_id": "s",
            "model_seq_id": 0,
            "base_model": "m/x",
            "user_metadata": {"k": "v"},
            "lora_config": {"rank": 8, "seed": 3, "train_mlp": False, "train_attn": True, "train_unembed": True},
        },
    ),
    (
        "CreateModelRequest",
        "CreateModelRequest",
        "models.create",
        {
            "session_id": "s",
            "model_seq_id": 1,
            "base_model": "m/x",
            "lora_config": {"rank": 32},
            "optimizer_config": {"type": "dimuon", "version": 1},
        },
    ),
    ("ModelIdRequest", "GetInfoRequest", "models.get_info", {"model_id": "s:train:0"}),
    ("UnloadModelRequest", "UnloadModelRequest", "models.unload", {"model_id": "s:train:0"}),
    (
        "CopyWeightsRequest",
        "CopyWeightsRequest",
        "models.copy_weights",
        {"source_path": "tinker://r/weights/a", "destination_project_id": "p", "ttl_seconds": 3600},
    ),
    (
        "OptimStepRequest",
        "OptimStepRequest",
        "training.optim_step",
        {
            "model_id": "m",
            "seq_id": 2,
            "adam_params": {"learning_rate": 0.0003, "beta2": 0.999, "weight_decay": 0.1, "grad_clip_norm": 1.0},
        },
    ),
    (
        "OptimStepRequest",
        "OptimStepRequest",
        "training.optim_step",
        {"model_id": "m", "seq_id": 3, "optimizer_params": {"type": "dimuon", "learning_rate": 0.01}},
    ),
    (
        "SaveWeightsRequest",
        "SaveWeightsRequest",
        "weights.save",
        {"model_id": "m", "seq_id": 4, "path": "a", "ttl_seconds": 3600, "overwrite": True},
    ),
    (
        "SaveWeightsRequest",
        "SaveWeightsRequest",
        "weights.save",
        {"model_id": "m", "seq_id": 4, "path": "a", "user_metadata": {"k": "v"}},
    ),
    (
        "SaveWeightsForSamplerRequest",
        "SaveWeightsForSamplerRequest",
        "weights.save_for_sampler",
        {"model_id": "m", "seq_id": 5, "sampling_session_seq_id": 0},
    ),
    (
        "SaveWeightsForSamplerRequest",
        "SaveWeightsForSamplerRequest",
        "weights.save_for_sampler",
        {"model_id": "m", "seq_id": 6, "path": "a", "ttl_seconds": 7200},
    ),
    (
        "SaveWeightsForSamplerRequest",
        "SaveWeightsForSamplerRequest",
        "weights.save_for_sampler",
        {"model_id": "m", "seq_id": 7, "sampling_session_seq_id": 1, "kind": "inflight", "user_metadata": {"k": "v"}},
    ),
    (
        "SaveWeightsExternalRequest",
        "SaveWeightsExternalRequest",
        "weights.save_external",
        {"model_id": "m", "seq_id": 8, "path": "a", "age_encryption_recipients": ["age1abc"]},
    ),
    (
        "LoadWeightsRequest",
        "LoadWeightsRequest",
        "weights.load",
        {"model_id": "m", "seq_id": 1, "path": "tinker://r/weights/a", "optimizer": True},
    ),
    (
        "LoadWeightsRequest",
        "LoadWeightsRequest",
        "weights.load",
        {
            "session_id": "s",
            "model_seq_id": 1,
            "path": "tinker://r/weights/a",
            "optimizer": False,
            "base_model": "m/x",
        },
    ),
    (
        "SampleRequest",
        "SampleRequest",
        "sampling.asample",
        {
            "prompt": {"chunks": [_TEXT, _IMAGE, _POINTER, _DMEL]},
            "sampling_params": {"max_tokens": 4, "seed": 7, "stop": ["\n", "END"], "temperature": 0.5},
            "num_samples": 2,
            "sampling_session_id": "s:sample:1",
            "seq_id": 0,
            "prompt_logprobs": True,
            "topk_prompt_logprobs": 2,
        },
    ),
    (
        "SampleRequest",
        "SampleRequest",
        "sampling.asample",
        {
            "prompt": {"chunks": [_TEXT]},
            "sampling_params": {"stop": [], "top_k": 5, "top_p": 0.25},
            "base_model": "m/x",
            "sampling_session_id": "s",
            "seq_id": 1,
        },
    ),
    (
        "SampleRequest",
        "SampleRequest",
        "sampling.asample",
        {
            "prompt": {"chunks": [_TEXT]},
            "sampling_params": {"stop": [1, 2]},
            "sampling_session_id": "s",
            "seq_id": 2,
            "prompt_logprobs": True,
            "topk_sample_logprobs": 3,
            "target_prompt_logprobs": {"data": [5, -1, 7], "dtype": "int64", "shape": [3, 1]},
            "prompt_alt_tokens_k": 2,
            "prompt_logprobs_last_n": 2,
            "record_stability_info": True,
        },
    ),
    (
        "RetrieveFutureRequest",
        "FutureRetrieveRequest",
        "futures.retrieve",
        {"request_id": "r", "allow_metadata_only": True},
    ),
    (
        "RetrieveFuturesRequest",
        "FuturesRetrieveRequest",
        "futures.retrieve_multi",
        {
            "target": {"type": "sampling_session", "sampling_session_id": "s:sample:1", "cloned_sampler_id": 4},
            "prev_cursor": 12,
            "timeout": 0.0,
            "retrieved_request_ids": ["a", "b"],
        },
    ),
    (
        "TelemetryBatch",
        "TelemetrySendRequest",
        "telemetry.send",
        _BATCH | {"events": [_START, _END, _EXCEPTION, _GENERIC]},
    ),
]

_DENSE: Values = {"data": [1, 151_643, 2**31 - 1, -100], "dtype": "int64", "shape": [4]}
_WEIGHTS: Values = {"data": [0.0, 1.0, -0.25, 3.0e38], "dtype": "float32", "shape": [4]}
_SPARSE: Values = {
    "data": [5, 6, 7],
    "dtype": "int64",
    "shape": [4, 9],
    "sparse_crow_indices": [0, 1, 1, 3, 3],
    "sparse_col_indices": [8, 0, 4],
}
_SPANS: Sequence[Mapping[str, Any]] = [
    {"kind": "prompt", "sequence_id": "q", "length": 3},
    {"kind": "sampled", "sequence_id": "q", "length": 1, "offset": 2},
]
FORWARD_BACKWARD: Sequence[Values] = [
    {
        "model_id": "s:train:0",
        "seq_id": 1,
        "data": [
            {
                "model_input": {"chunks": [_TEXT]},
                "loss_fn_inputs": {"target_tokens": _DENSE, "weights": _WEIGHTS},
            }
        ],
        "loss_fn": "cross_entropy",
        "forward_only": False,
    },
    {
        "model_id": "s:train:0",
        "seq_id": 2,
        "data": [
            {"model_input": {"chunks": [_TEXT]}, "loss_fn_inputs": {"target_tokens": _SPARSE}},
            {"model_input": {"chunks": [_IMAGE, _DMEL]}, "loss_fn_inputs": {"other": _DENSE}},
        ],
        "loss_fn": "ppo",
        "loss_fn_config": {"clip_low_threshold": 0.9, "clip_high_threshold": 1.1},
        "forward_only": True,
    },
    {  # from 0.38 on: where tokens came from, and settings that are text
        "model_id": "s:train:0",
        "seq_id": 3,
        "data": [
            {
                "model_input": {"chunks": [_TEXT]},
                "loss_fn_inputs": {"target_tokens": _DENSE},
                "model_input_spans": _SPANS,
                "loss_fn_input_spans": _SPANS,
            }
        ],
        "loss_fn": "custom",
        "loss_fn_config": {"loss_id": "l-1", "beta": 0.5},
        "forward_only": False,
    },
]

RESULTS: Sequence[tuple[str, str, Values]] = [
    ("CreateModelResponse", "create_model_response.CreateModelResponse", {"model_id": "s:train:0"}),
    (
        "CreateSessionResponse",
        "create_session_response.CreateSessionResponse",
        {"session_id": "s", "info_message": "hello", "warning_message": None},
    ),
    (
        "CreateSamplingSessionResponse",
        "create_sampling_session_response.CreateSamplingSessionResponse",
        {"sampling_session_id": "s:sample:1"},
    ),
    (
        "GetServerCapabilitiesResponse",
        "get_server_capabilities_response.GetServerCapabilitiesResponse",
        {"supported_models": [{"model_name": "m/x", "max_context_length": 32_768}, {"model_name": None}]},
    ),
    (
        "GetInfoResponse",
        "_pydantic_types.get_info_response.GetInfoResponse",
        {
            "model_id": "s:train:0",
            "model_data": {"arch": "a", "model_name": "m/x", "tokenizer_id": "t:1"},
            "is_lora": True,
            "lora_rank": 8,
        },
    ),
    (
        "GetInfoResponse",
        "_pydantic_types.get_info_response.GetInfoResponse",
        {"model_id": "m", "model_data": {}, "optimizer_config": {"type": "dimuon", "version": 1}},
    ),
    (
        "OptimStepResponse",
        "_pydantic_types.optim_step_response.OptimStepResponse",
        {"metrics": {"grad_norm:mean": 0.5}},
    ),
    ("OptimStepResponse", "_pydantic_types.optim_step_response.OptimStepResponse", {"metrics": None}),
    ("SaveWeightsResponse", "save_weights_response.SaveWeightsResponse", {"path": "tinker://r/weights/a"}),
    (
        "SaveWeightsForSamplerResponse",
        "_pydantic_types.save_weights_for_sampler_response.SaveWeightsForSamplerResponseInternal",
        {"path": None, "sampling_session_id": "s:sample:1"},
    ),
    (
        "SaveWeightsExternalResponse",
        "_pydantic_types.save_weights_external_response.SaveWeightsExternalResponseInternal",
        {"path": "tinker://r/external_weights/a", "size_bytes": 12},
    ),
    (
        "LoadWeightsResponse",
        "_pydantic_types.load_weights_response.LoadWeightsResponse",
        {"path": "tinker://r/weights/a"},
    ),
    ("UnloadModelResponse", "unload_model_response.UnloadModelResponse", {"model_id": "s:train:0"}),
    ("CreateCustomLossResponse", "create_custom_loss_response.CreateCustomLossResponse", {"loss_id": "l-1"}),
    (
        "JoinSamplingSessionResponse",
        "join_sampling_session_response.JoinSamplingSessionResponse",
        {"client_counter": 3},
    ),
    ("CopyWeightsResponse", "copy_weights_response.CopyWeightsResponse", {"tinker_path": "tinker://c/weights/a"}),
    (
        "WeightsInfoResponse",
        "weights_info_response.WeightsInfoResponse",
        {"base_model": "m/x", "is_lora": True, "lora_rank": 8, "train_mlp": True},
    ),
    (
        "CheckpointsListResponse",
        "checkpoints_list_response.CheckpointsListResponse",
        {
            "checkpoints": [
                {
                    "checkpoint_id": "weights/a",
                    "checkpoint_type": "training",
                    "time": TIME,
                    "tinker_path": "tinker://r/weights/a",
                    "size_bytes": 1234,
                    "public": True,
                    "expires_at": "2026-12-24T00:00:00Z",
                }
            ],
            "cursor": {"offset": 0, "limit": 100, "total_count": 1},
        },
    ),
    (
        "TrainingRunsResponse",
        "training_runs_response.TrainingRunsResponse",
        {
            "training_runs": [
                {
                    "training_run_id": "r",
                    "base_model": "m/x",
                    "model_owner": "o",
                    "is_lora": True,
                    "corrupted": False,
                    "lora_rank": 8,
                    "last_request_time": TIME,
                    "user_metadata": {"k": "v"},
                }
            ],
            "cursor": {"offset": 20, "limit": 20, "total_count": 21},
        },
    ),
    (
        "GetSessionResponse",
        "get_session_response.GetSessionResponse",
        {"training_run_ids": ["r"], "sampler_ids": ["s:sample:1"]},
    ),
    ("ListSessionsResponse", "list_sessions_response.ListSessionsResponse", {"sessions": ["s", "t"]}),
    (
        "GetSamplerResponse",
        "_pydantic_types.get_sampler_response.GetSamplerResponse",
        {"sampler_id": "s:sample:1", "base_model": "m/x", "model_path": "tinker://r/sampler_weights/a"},
    ),
    ("TryAgain", "try_again_response.TryAgainResponse", {"request_id": "r", "queue_state": "paused_capacity"}),
    ("FailedResult", "request_failed_response.RequestFailedResponse", {"error": "no", "category": "user"}),
    (
        "Promise",
        "shared.untyped_api_future.UntypedAPIFuture",
        {"request_id": "r", "model_id": "m"},
    ),
    (
        "ClientConfig",
        "client_config_response.ClientConfigResponse",
        {"pjwt_auth_enabled": True, "parallel_fwdbwd_chunks": False, "sample_max_concurrent_requests": 7},
    ),
    (
        "ClientDynamicConfig",
        "client_dynamic_config_response.ClientDynamicConfigResponse",
        {"refresh_interval_sec": 60},
    ),
    (
        "ClientDynamicConfig",
        "client_dynamic_config_response.ClientDynamicConfigResponse",
        {"sample_cancel_enabled": True, "sample_cancel_max_batch_size": 8},
    ),
    (
        "RetrieveFuturesResponse",
        "futures_retrieve_response.FuturesRetrieveResponse",
        {
            "completions": [
                {"state": "finished", "request_id": "a", "response_payload_uncompressed_size": 9},
                {"state": "failed", "request_id": "b"},
            ],
            "cursor": 14,
        },
    ),
]

SAMPLE_RESPONSES: Sequence[Values] = [
    {
        "sequences": [
            {"stop_reason": "stop", "tokens": [1, 2, 2**31 - 1], "logprobs": [-0.5, 0.0, -12.25]},
            {"stop_reason": "length", "tokens": [7], "logprobs": None},
        ],
        "prompt_logprobs": [None, -1.5, -2.5],
        "topk_prompt_logprobs": [None, [[5, -0.5], [6, -1.5]], [[7, -0.25]]],
    },
    {"sequences": [{"stop_reason": "length", "tokens": [], "logprobs": None}]},
    {  # from 0.38 on
        "sequences": [
            {
                "stop_reason": "length",
                "tokens": [3, 4],
                "logprobs": [-1.0, -2.0],
                "topk_logprobs": [[[3, -1.0], [9, -3.0]], [[4, -2.0], [1, -4.0]]],
            }
        ],
        "prompt_cache_hit_tokens": 11,
        "target_prompt_logprobs": {"data": [-0.5, 0.0], "dtype": "float32", "shape": [2, 1]},
        "prompt_alt_tokens": {
            "tokens": {"data": [8, 9], "dtype": "int64", "shape": [1, 2]},
            "logprobs": {"data": [-1.0, -2.0], "dtype": "float32", "shape": [1, 2]},
        },
    },
]

FORWARD_BACKWARD_OUTPUTS: Sequence[Values] = [
    {
        "loss_fn_output_type": "ArrayRecord",
        "loss_fn_outputs": [
            {"logprobs": {"data": [-0.5, -1.5, -2.5], "dtype": "float32", "shape": [3]}},
            {"logprobs": {"data": [-4.0], "dtype": "float32", "shape": [1]}},
        ],
        "metrics": {"loss:sum": 8.5, "clock_cycle:unique": 3.0},
    },
    {
        "loss_fn_output_type": "ArrayRecord",
        "loss_fn_outputs": [
            {
                "logprobs": {"data": [-0.5, -1.5, -2.5, -3.5], "dtype": "float32", "shape": [2, 2]},
                "ids": {"data": [2**40, -1], "dtype": "int64", "shape": [2]},
            }
        ],
        "metrics": {},
    },
]
