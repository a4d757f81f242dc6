"""What the listings and the other small endpoints were asked, and what their answers were made of.

Read by ``record.py`` as ``messages.py`` is, and by the tests.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

__all__ = ["ANSWER", "CALLS", "RESULTS"]

Values: TypeAlias = dict[str, Any]

TIME = "2026-11-24T01:59:48.980631Z"
DAY = "2026-11-24"
HOUR = f"{DAY}T02:00:00Z"
LATER = "2026-12-24T00:00:00Z"
RUN = "s:train:0"
PATH = f"tinker://{RUN}/weights/a"
EXTERNAL = f"tinker://{RUN}/external_weights/a"
_PLACE: Values = {"run_id": RUN, "checkpoint_id": "weights/a"}
_SEARCH: Values = {
    "session_id": "s",
    "project_ids": ["p"],
    "user_metadata": {"k": "v"},
    "display_name": "mine",
    "owner": {"type": "user", "owner_urns": ["u"]},
    "statuses": [{"type": "active"}, {"type": "client_finished", "reasons": ["errored"]}],
    "limit": 10,
    "cursor": {"last_created_at": HOUR, "last_session_id": "r"},
}

# method of the SDK's client and its arguments, our function and its arguments; times are text here
CALLS: Sequence[tuple[str, Values, str, Values]] = [
    ("service.health_check", {}, "service.healthz", {}),
    ("service.auth_token", {}, "service.auth_token", {}),
    ("service.get_server_capabilities", {}, "service.get_server_capabilities", {}),
    ("service.client_dynamic_config", {}, "service.client_dynamic_config", {"sdk_version": "1.2.3"}),
    ("get_training_run", {"training_run_id": RUN}, "listings.get_training_run", {"run_id": RUN}),
    (
        "get_training_run",
        {"training_run_id": RUN, "access_scope": "accessible"},
        "listings.get_training_run",
        {"run_id": RUN, "access_scope": "accessible"},
    ),
    (
        "list_training_runs",
        {"limit": 5, "offset": 10},
        "listings.list_training_runs",
        {"limit": 5, "offset": 10},
    ),
    (
        "list_training_runs",
        {"access_scope": "accessible", "project_id": "p"},
        "listings.list_training_runs",
        {"access_scope": "accessible", "project_id": "p"},
    ),
    ("get_weights_info_by_tinker_path", {"tinker_path": PATH}, "weights.weights_info", {"path": PATH}),
    ("list_checkpoints", {"training_run_id": RUN}, "checkpoints.list_checkpoints", {"run_id": RUN}),
    ("list_user_checkpoints", {}, "checkpoints.list_user_checkpoints", {}),
    (
        "list_user_checkpoints",
        {"limit": 7, "offset": 1},
        "checkpoints.list_user_checkpoints",
        {"limit": 7, "offset": 1},
    ),
    (
        "get_external_weights_urls",
        {"tinker_path": EXTERNAL},
        "checkpoints.external_weights_urls",
        _PLACE | {"checkpoint_id": "external_weights/a"},
    ),
    (
        "get_checkpoint_archive_url",
        {"training_run_id": RUN, "checkpoint_id": "weights/a"},
        "checkpoints.checkpoint_archive_url",
        _PLACE,
    ),
    (
        "delete_checkpoint",
        {"training_run_id": RUN, "checkpoint_id": "weights/a"},
        "checkpoints.delete_checkpoint",
        _PLACE,
    ),
    ("publish_checkpoint_from_tinker_path", {"tinker_path": PATH}, "checkpoints.publish_checkpoint", _PLACE),
    ("unpublish_checkpoint_from_tinker_path", {"tinker_path": PATH}, "checkpoints.unpublish_checkpoint", _PLACE),
    (
        "set_checkpoint_ttl_from_tinker_path",
        {"tinker_path": PATH, "ttl_seconds": 3600},
        "checkpoints.set_checkpoint_ttl",
        _PLACE | {"ttl_seconds": 3600},
    ),
    (
        "set_checkpoint_ttl_from_tinker_path",
        {"tinker_path": PATH, "ttl_seconds": None},
        "checkpoints.set_checkpoint_ttl",
        _PLACE | {"ttl_seconds": None},
    ),
    ("get_session", {"session_id": "s"}, "listings.get_session", {"session_id": "s"}),
    ("list_sessions", {}, "listings.list_sessions", {}),
    ("list_sessions", {"limit": 3, "offset": 4}, "listings.list_sessions", {"limit": 3, "offset": 4}),
    (
        "assign_session_project",
        {"session_id": "s", "project_id": "p"},
        "listings.set_session_project",
        {"session_id": "s", "project_id": "p"},
    ),
    ("export_session_trace", {"session_id": "s"}, "listings.trace_export", {"session_id": "s"}),
    ("search_sessions", {"request": _SEARCH}, "listings.search_sessions", {"request": _SEARCH}),
    ("search_sessions", {"request": {}}, "listings.search_sessions", {"request": {}}),
    ("get_sampler", {"sampler_id": "s:sample:1"}, "listings.get_sampler", {"sampler_id": "s:sample:1"}),
    ("get_audit_log", {}, "listings.audit_log", {}),
    (
        "get_audit_log",
        {"event_type": "checkpoints", "day": DAY},
        "listings.audit_log",
        {"event_type": "checkpoints", "day": DAY},
    ),
    (
        "get_billing_usage",
        {"starting_on": HOUR, "ending_before": LATER},
        "listings.billing_usage",
        {"starting_on": HOUR, "ending_before": LATER},
    ),
    (
        "get_current_checkpoint_storage_usage",
        {"project_id": "p"},
        "listings.checkpoint_storage_usage",
        {"project_id": "p"},
    ),
    ("cancel", {"request_id": "r"}, "futures.cancel_future", {"request_id": "r"}),
    (
        "close",
        {"status": "errored", "detail": "why"},
        "sessions.finish_session",
        {"session_id": "s", "reason": "errored", "detail": "why"},
    ),
    (
        "close",
        {"status": "success"},
        "sessions.finish_session",
        {"session_id": "s", "reason": "success", "detail": None},
    ),
]

_CHECKPOINT: Values = {
    "checkpoint_id": "weights/a",
    "checkpoint_type": "training",
    "time": TIME,
    "tinker_path": PATH,
}
_SUMMARY: Values = {
    "session_id": "s",
    "created_at": TIME,
    "owner": "o",
    "project_id": "p",
    "checkpoints_count": 3,
}
_EVENT: Values = {"bucket_start": HOUR, "bucket_end": "2026-11-24T03:00:00Z"}

# our type, the SDK's, the values
RESULTS: Sequence[tuple[str, str, Values]] = [
    ("HealthResponse", "health_response.HealthResponse", {"status": "ok"}),
    ("AuthTokenResponse", "auth_token_response.AuthTokenResponse", {"jwt": "eyJ.e30.x"}),
    ("Checkpoint", "checkpoint.Checkpoint", _CHECKPOINT),
    (
        "Checkpoint",
        "checkpoint.Checkpoint",
        _CHECKPOINT | {"checkpoint_type": "external", "tinker_path": EXTERNAL, "user_metadata": {"k": "v"}},
    ),
    ("CheckpointsListResponse", "checkpoints_list_response.CheckpointsListResponse", {"checkpoints": []}),
    (
        "CheckpointArchiveUrlResponse",
        "checkpoint_archive_url_response.CheckpointArchiveUrlResponse",
        {"url": "https://h/a.tar?x=1", "expires": TIME},
    ),
    (
        "ExternalWeightsUrlsResponse",
        "external_weights_urls_response.ExternalWeightsUrlsResponse",
        {"urls": {"a/b.safetensors": "https://h/b"}, "expires": TIME},
    ),
    (
        "TrainingRun",
        "training_run.TrainingRun",
        {
            "training_run_id": RUN,
            "base_model": "m/x",
            "model_owner": "o",
            "is_lora": False,
            "corrupted": True,
            "last_request_time": TIME,
            "last_checkpoint": _CHECKPOINT,
            "last_sampler_checkpoint": _CHECKPOINT
            | {"checkpoint_type": "sampler", "tinker_path": "tinker://s:train:0/sampler_weights/a"},
        },
    ),
    (
        "TrainingRunsResponse",
        "training_runs_response.TrainingRunsResponse",
        {"training_runs": [], "cursor": {"offset": 0, "limit": 20, "total_count": 0}},
    ),
    (
        "GetSessionResponse",
        "get_session_response.GetSessionResponse",
        {"training_run_ids": [], "sampler_ids": [], "user_metadata": {"k": "v"}, "display_name": "mine"},
    ),
    (
        "GetSamplerResponse",
        "_pydantic_types.get_sampler_response.GetSamplerResponse",
        {"sampler_id": "s:sample:1", "base_model": "m/x"},
    ),
    (
        "SessionSearchResponse",
        "session_search_response.SessionSearchResponse",
        {
            "sessions": [
                _SUMMARY,
                _SUMMARY | {"status": {"type": "active"}, "display_name": "mine", "user_metadata": {"k": "v"}},
                _SUMMARY | {"status": {"type": "cancelled", "detail": "d"}, "checkpoint_storage_bytes": 2**40},
                _SUMMARY | {"status": {"type": "client_finished", "reason": {"type": "interrupted"}, "detail": "d"}},
                _SUMMARY
                | {
                    "status": {
                        "type": "failed",
                        "category": "user",
                        "reason": {"type": "request", "request_id": "r", "request_type": "t"},
                        "message": "no",
                    }
                },
                _SUMMARY
                | {
                    "status": {
                        "type": "failed",
                        "category": "internal",
                        "reason": {"type": "training_run", "training_run_id": RUN},
                        "message": "no",
                    }
                },
                _SUMMARY
                | {
                    "status": {
                        "type": "failed",
                        "category": "internal",
                        "reason": {"type": "sampling_session", "sampling_session_id": "s:sample:1"},
                        "message": "no",
                    }
                },
            ],
            "next_cursor": {"last_created_at": TIME, "last_session_id": "s"},
        },
    ),
    (
        "TraceExportResponse",
        "tinker.lib.public_interfaces.rest_client._SessionTraceExportPollResponse",
        {"status": "ready", "url": "https://h/trace"},
    ),
    (
        "TraceExportResponse",
        "tinker.lib.public_interfaces.rest_client._SessionTraceExportPollResponse",
        {"status": "failed", "error": "no"},
    ),
    (
        "AuditLogResponse",
        "audit_log_response.AuditLogResponse",
        {
            "entries": [
                {
                    "timestamp": TIME,
                    "event": "checkpoint_deleted",
                    "event_details": {"n": 1, "in": {"a": [True]}},
                    "model_id": RUN,
                    "tinker_path": PATH,
                    "purpose": "why",
                },
                {"timestamp": TIME, "event": "other", "event_details": {}},
            ]
        },
    ),
    (
        "AuditLogResponse",
        "audit_log_response.AuditLogResponse",
        {"entries": [{"timestamp": TIME, "event": "checkpoint_published", "tinker_path": PATH}]},
    ),
    (
        "BillingUsageResponse",
        "billing_usage_response.BillingUsageResponse",
        {
            "data": [
                _EVENT | {"event_info": {"type": "training", "token_count": 2**40}, "estimated_cost_usd": 0.25},
                _EVENT | {"event_info": {"type": "sampling_prefill", "cached": True, "token_count": 5}},
                _EVENT | {"event_info": {"type": "sampling_sample", "token_count": 6}, "base_model": "m/x"},
                _EVENT | {"event_info": {"type": "checkpoint", "count": 7}, "session_id": "s", "project_id": "p"},
                _EVENT | {"event_info": {"type": "storage", "gigabyte_hours": 0.5}, "user_id": "u"},
            ],
            "sessions": {"s": {"user_metadata": {"k": "v"}}, "t": {}},
            "cost_data_through": HOUR,
        },
    ),
    (
        "CheckpointStorageUsageResponse",
        "current_checkpoint_storage_usage_response.CurrentCheckpointStorageUsageResponse",
        {
            "data": [
                {"checkpoint_count": 1, "size_bytes": 2**40, "size_gigabytes": 1024.0, "project_id": "p"},
                {
                    "checkpoint_count": 0,
                    "size_bytes": 0,
                    "size_gigabytes": 0.0,
                    "org_user_urn": "u",
                    "user_email": "e",
                    "user_name": "n",
                    "estimated_monthly_cost_usd": 0.5,
                },
            ],
            "effective_rate_usd_per_gigabyte_month": 0.02,
        },
    ),
    ("FailedResult", "request_failed_response.RequestFailedResponse", {"error": "no", "category": "server"}),
    ("TryAgain", "try_again_response.TryAgainResponse", {"request_id": "r", "queue_state": "active"}),
    (
        "Promise",
        "shared.untyped_api_future.UntypedAPIFuture",
        {"request_id": "r", "sample_sequence_ids": ["a", "b"]},
    ),
    ("LoadWeightsResponse", "_pydantic_types.load_weights_response.LoadWeightsResponse", {"model_id": RUN}),
    (
        "WeightsInfoResponse",
        "weights_info_response.WeightsInfoResponse",
        {"base_model": "m/x", "is_lora": False, "optimizer_config": {"type": "dimuon", "version": 1}},
    ),
]

# what any of the calls may want to read
ANSWER: Values = {
    "request_id": "r",
    "session_id": "s",
    "sampling_session_id": "s:sample:1",
    "cursor": {"offset": 0, "limit": 20, "total_count": 0},
    "checkpoints": [],
    "training_runs": [],
    "training_run_ids": [],
    "sampler_ids": [],
    "sampler_id": "s:sample:1",
    "base_model": "m/x",
    "is_lora": True,
    "training_run_id": RUN,
    "model_owner": "o",
    "last_request_time": TIME,
    "entries": [],
    "data": [],
    "urls": {},
    "expires": TIME,
    "status": "ready",
    "url": "https://h/a",
    "supported_models": [],
    "jwt": "eyJ.e30.x",
}
