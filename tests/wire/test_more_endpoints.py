"""The endpoints that only some servers have: where each asks, what it sends, what it makes of the reply."""

from __future__ import annotations

import datetime
import importlib
import pkgutil
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import tinker_actors.types as ta
from tests.wire import test_endpoints
from tests.wire.scripted import Answer, scripted
from tinker_actors import errors
from tinker_actors.wire import endpoints
from tinker_actors.wire.api import Api
from tinker_actors.wire.endpoints import (
    checkpoints,
    futures,
    listings,
    models,
    sampling,
    service,
    telemetry,
    training,
    weights,
)

WHEN = datetime.datetime(2026, 11, 24, 2, 0, tzinfo=datetime.UTC)
STAMP = "2026-11-24T02:00:00Z"
CHECKPOINT = {
    "checkpoint_id": "weights/a b",
    "checkpoint_type": "training",
    "time": STAMP,
    "tinker_path": "tinker://r:train:0/weights/a b",
}
A_CHECKPOINT = ta.Checkpoint(
    checkpoint_id="weights/a b", checkpoint_type="training", time=WHEN, tinker_path="tinker://r:train:0/weights/a b"
)
RUN = {
    "training_run_id": "r:train:0",
    "base_model": "m",
    "model_owner": "o",
    "is_lora": True,
    "last_request_time": STAMP,
    "later": 1,
}
A_RUN = ta.TrainingRun(
    training_run_id="r:train:0", base_model="m", model_owner="o", is_lora=True, last_request_time=WHEN
)
CURSOR = {"offset": 0, "limit": 20, "total_count": 1}
A_CURSOR = ta.Cursor(offset=0, limit=20, total_count=1)
PLACE = "/training_runs/r:train:0/checkpoints/weights/a b"

# by name of the function: method and path with its query; call; body; reply; value
ROWS: dict[str, tuple[str, Callable[[Api], Awaitable[Any]], Any, Any, Any]] = {
    "healthz": ("GET /healthz", service.healthz, None, {"status": "ok"}, ta.HealthResponse()),
    "client_dynamic_config": (
        "POST /client/dynamic_config",
        lambda api: service.client_dynamic_config(api, "0.38.0"),
        {"sdk_version": "0.38.0"},
        {"refresh_interval_sec": 20, "later": 1},
        ta.ClientDynamicConfig(refresh_interval_sec=20),
    ),
    "auth_token": ("POST /auth/token", service.auth_token, {}, {"jwt": "eyJ"}, ta.AuthTokenResponse(jwt="eyJ")),
    "api_key_info": (
        "GET /auth/apikey/me",
        service.api_key_info,
        None,
        {"key_id": 5, "name": "n", "note": None, "details": {"user_details": {"email": "e"}}},
        ta.ApiKeyInfo(key_id=5, name="n", details=ta.ApiKeyDetails(user_details=ta.ApiKeyUser(email="e"))),
    ),
    "revoke_api_key": ("DELETE /auth/apikey/me", service.revoke_api_key, None, {}, None),
    "unload_model": (
        "POST /unload_model",
        lambda api: models.unload_model(api, "m", key="key"),
        {"model_id": "m", "type": "unload_model"},
        {"request_id": "r"},
        ta.Promise(request_id="r"),
    ),
    "create_custom_loss": (
        "POST /create_custom_loss",
        lambda api: training.create_custom_loss(
            api,
            ta.CreateCustomLossRequest(
                session_id="s",
                custom_loss_seq_id=0,
                name="l",
                inputs=(ta.CustomLossInput(name="x", rank=1),),
                graph={"n": []},
            ),
            key="key",
        ),
        {
            "session_id": "s",
            "custom_loss_seq_id": 0,
            "name": "l",
            "inputs": [{"name": "x", "rank": 1}],
            "graph": {"n": []},
            "type": "create_custom_loss",
        },
        {"request_id": "r"},
        ta.Promise(request_id="r"),
    ),
    "save_weights_external": (
        "POST /save_weights_external",
        lambda api: weights.save_weights_external(
            api, ta.SaveWeightsExternalRequest(model_id="m", path="a", seq_id=4), key="key"
        ),
        {"model_id": "m", "path": "a", "seq_id": 4, "type": "save_weights_external"},
        {"request_id": "r"},
        ta.Promise(request_id="r"),
    ),
    "copy_weights": (
        "POST /copy_weights",
        lambda api: weights.copy_weights(
            api,
            ta.CopyWeightsRequest(source_path="tinker://r/weights/a", destination_project_id="p"),
            key="key",
        ),
        {"source_path": "tinker://r/weights/a", "destination_project_id": "p"},
        {"tinker_path": "tinker://c/weights/a"},
        "tinker://c/weights/a",
    ),
    "join_sampling_session": (
        "POST /join_sampling_session",
        lambda api: sampling.join_sampling_session(api, "s:sample:0", key="key"),
        {"sampling_session_id": "s:sample:0", "type": "join_sampling_session"},
        {"client_counter": 3},
        3,
    ),
    "retrieve_futures": (
        "POST /retrieve_futures",
        lambda api: futures.retrieve_futures(
            api,
            ta.RetrieveFuturesRequest(
                target=ta.SamplingSessionTarget(sampling_session_id="s:sample:0"), retrieved_request_ids=("a",)
            ),
            timeout=45.0,
        ),
        {
            "target": {"type": "sampling_session", "sampling_session_id": "s:sample:0", "cloned_sampler_id": 0},
            "prev_cursor": 0,
            "retrieved_request_ids": ["a"],
        },
        {
            "completions": [
                {"state": "finished", "request_id": "b", "response_payload_uncompressed_size": 9},
                {"state": "failed", "request_id": "c"},
            ],
            "cursor": 7,
        },
        ta.RetrieveFuturesResponse(
            completions=(
                ta.FutureFinished(request_id="b", response_payload_uncompressed_size=9),
                ta.FutureFailed(request_id="c"),
            ),
            cursor=7,
        ),
    ),
    "cancel_future": (
        "POST /cancel_future",
        lambda api: futures.cancel_future(api, "r", key="key"),
        {"request_id": "r"},
        {},
        None,
    ),
    "send_telemetry": (
        "POST /telemetry",
        lambda api: telemetry.send_telemetry(
            api, ta.TelemetryBatch(events=(), platform="Linux", sdk_version="0.38.0", session_id="s"), key="key"
        ),
        {"events": [], "platform": "Linux", "sdk_version": "0.38.0", "session_id": "s"},
        {"status": "accepted"},
        None,
    ),
    "list_training_runs": (
        "GET /training_runs?limit=20&offset=0&access_scope=accessible&project_id=p",
        lambda api: listings.list_training_runs(api, access_scope="accessible", project_id="p"),
        None,
        {"training_runs": [RUN], "cursor": CURSOR},
        ta.TrainingRunsResponse(training_runs=(A_RUN,), cursor=A_CURSOR),
    ),
    "get_training_run": (
        "GET /training_runs/r:train:0?access_scope=owned",
        lambda api: listings.get_training_run(api, "r:train:0"),
        None,
        RUN,
        A_RUN,
    ),
    "list_sessions": (
        "GET /sessions?limit=5&offset=10&access_scope=owned",
        lambda api: listings.list_sessions(api, limit=5, offset=10),
        None,
        {"sessions": ["s"]},
        ta.ListSessionsResponse(sessions=("s",)),
    ),
    "get_session": (
        "GET /sessions/s?access_scope=owned",
        lambda api: listings.get_session(api, "s"),
        None,
        {"training_run_ids": ["r"], "sampler_ids": []},
        ta.GetSessionResponse(training_run_ids=("r",), sampler_ids=()),
    ),
    "set_session_project": (
        "PUT /sessions/s/project",
        lambda api: listings.set_session_project(api, "s", "p", key="key"),
        {"project_id": "p"},
        b"",
        None,
    ),
    "trace_export": (
        "GET /sessions/s/trace_export",
        lambda api: listings.trace_export(api, "s"),
        None,
        {"status": "ready", "url": "https://x"},
        ta.TraceExportResponse(status="ready", url="https://x"),
    ),
    "search_sessions": (
        "POST /sessions/search",
        lambda api: listings.search_sessions(api, ta.SessionSearchRequest(project_ids=("p",))),
        {"project_ids": ["p"], "user_metadata": {}, "owner": {"type": "own"}, "limit": 50},
        {"sessions": []},
        ta.SessionSearchResponse(sessions=()),
    ),
    "get_sampler": (
        "GET /samplers/s:sample:0",
        lambda api: listings.get_sampler(api, "s:sample:0"),
        None,
        {"sampler_id": "s:sample:0", "base_model": "m"},
        ta.GetSamplerResponse(sampler_id="s:sample:0", base_model="m"),
    ),
    "audit_log": (
        "GET /audit?event_type=projects&day=2026-11-24",
        lambda api: listings.audit_log(api, event_type="projects", day=WHEN.date()),
        None,
        {"entries": [{"timestamp": STAMP, "event": "e", "event_details": {"a": 1}}]},
        ta.AuditLogResponse(entries=(ta.AuditLogEntry(timestamp=WHEN, event="e", event_details={"a": 1}),)),
    ),
    "billing_usage": (
        "GET /billing/usage/events?starting_on=2026-11-24T02:00:00Z&ending_before=2026-11-24T03:00:00Z",
        lambda api: listings.billing_usage(api, starting_on=WHEN, ending_before=WHEN + datetime.timedelta(hours=1)),
        None,
        {
            "data": [
                {"bucket_start": STAMP, "bucket_end": STAMP, "event_info": {"type": "training", "token_count": 3}}
            ],
            "sessions": {"s": {"user_metadata": {"a": "b"}}},
        },
        ta.BillingUsageResponse(
            data=(
                ta.BillingUsageEvent(
                    bucket_start=WHEN, bucket_end=WHEN, event_info=ta.TrainingBillingEvent(token_count=3)
                ),
            ),
            sessions={"s": ta.BillingUsageSession(user_metadata={"a": "b"})},
        ),
    ),
    "checkpoint_storage_usage": (
        "GET /billing/usage/checkpoints/current",
        listings.checkpoint_storage_usage,
        None,
        {"data": [{"checkpoint_count": 1, "size_bytes": 2, "size_gigabytes": 0.5}]},
        ta.CheckpointStorageUsageResponse(
            data=(ta.CheckpointStorageUsage(checkpoint_count=1, size_bytes=2, size_gigabytes=0.5),)
        ),
    ),
    "list_checkpoints": (
        "GET /training_runs/r:train:0/checkpoints",
        lambda api: checkpoints.list_checkpoints(api, "r:train:0"),
        None,
        {"checkpoints": [CHECKPOINT]},
        ta.CheckpointsListResponse(checkpoints=(A_CHECKPOINT,)),
    ),
    "list_user_checkpoints": (
        "GET /checkpoints?limit=100&offset=0",
        checkpoints.list_user_checkpoints,
        None,
        {"checkpoints": [], "cursor": CURSOR},
        ta.CheckpointsListResponse(checkpoints=(), cursor=A_CURSOR),
    ),
    "delete_checkpoint": (
        f"DELETE {PLACE}",
        lambda api: checkpoints.delete_checkpoint(api, "r:train:0", "weights/a b", key="key"),
        None,
        b"",
        None,
    ),
    "publish_checkpoint": (
        f"POST {PLACE}/publish",
        lambda api: checkpoints.publish_checkpoint(api, "r:train:0", "weights/a b", key="key"),
        None,
        b"",
        None,
    ),
    "unpublish_checkpoint": (
        f"DELETE {PLACE}/publish",
        lambda api: checkpoints.unpublish_checkpoint(api, "r:train:0", "weights/a b", key="key"),
        None,
        b"",
        None,
    ),
    "set_checkpoint_ttl": (
        f"PUT {PLACE}/ttl",
        lambda api: checkpoints.set_checkpoint_ttl(api, "r:train:0", "weights/a b", None, key="key"),
        {"ttl_seconds": None},
        b"",
        None,
    ),
    "external_weights_urls": (
        f"GET {PLACE}/external_weights_urls",
        lambda api: checkpoints.external_weights_urls(api, "r:train:0", "weights/a b"),
        None,
        {"urls": {"a/b": "https://x"}, "expires": STAMP},
        ta.ExternalWeightsUrlsResponse(urls={"a/b": "https://x"}, expires=WHEN),
    ),
    "checkpoint_archive_url": (
        f"GET {PLACE}/archive",
        lambda api: checkpoints.checkpoint_archive_url(api, "r:train:0", "weights/a b"),
        None,
        {"url": "https://x/a.tar"},
        ta.CheckpointArchiveUrlResponse(url="https://x/a.tar"),
    ),
}
UNKEYED = {"search_sessions", "client_dynamic_config", "auth_token", "revoke_api_key", "retrieve_futures"}


@pytest.mark.parametrize("name", ROWS)
async def test_each_asks_and_understands(name: str):
    where, send, body, reply, value = ROWS[name]
    method, _, target = where.partition(" ")
    path, _, query = target.partition("?")
    async with scripted(Answer(reply)) as (api, script):
        assert await send(api) == value
    (asked,) = script.asked
    assert (asked.method, asked.path, asked.query) == (method, f"/services/prod/api/v1{path}", query)
    assert (asked.json if asked.body else None) == body
    keyed = method != "GET" and name not in UNKEYED
    assert asked.headers.get("x-idempotency-key") == ("key" if keyed else None)


def test_every_function_of_every_module_has_its_row():
    found: set[str] = set()
    for module in pkgutil.iter_modules(endpoints.__path__):
        names = importlib.import_module(f"{endpoints.__name__}.{module.name}").__all__
        found |= {name for name in names if name.islower()}
    first = {row.partition(" ")[2].rpartition("/")[2] for row in test_endpoints.ROWS} - {"config", "finish"}
    elsewhere = {"client_config", "finish_session", "forward_backward", "retrieve_future", "stream_sample"}
    assert found == first | elsewhere | set(ROWS)


async def test_a_server_without_dynamic_config_gets_the_defaults():
    async with scripted(Answer({"detail": "Not Found"}, 404)) as (api, _):
        assert await service.client_dynamic_config(api, "0.38.0") == ta.ClientDynamicConfig()


async def test_unload_model_at_servers_of_every_age():
    async with scripted(Answer({"detail": "field required"}, 422), Answer({"model_id": "m"})) as (api, script):
        assert await models.unload_model(api, "m", key="key") == ta.UnloadModelResponse(model_id="m")
        assert [asked.query for asked in script.asked] == ["", "model_id=m"]
    for status in (404, 405):
        async with scripted(Answer({"detail": "Not Found"}, status)) as (api, _):
            assert await models.unload_model(api, "m", key="key") is None
    async with scripted(Answer({"detail": "no"}, 403)) as (api, _):
        with pytest.raises(errors.PermissionDeniedError):
            await models.unload_model(api, "m", key="key")


async def test_the_archive_of_older_servers_is_a_redirect_that_is_not_followed():
    async with scripted(Answer(b"", 302, {"location": "https://store/a.tar?signature=x"})) as (api, script):
        found = await checkpoints.checkpoint_archive_url(api, "r", "weights/a")
        assert found.url == "https://store/a.tar?signature=x"
        assert found.expires is None
        assert len(script.asked) == 1
    for text, expires in (("Tue, 24 Nov 2026 02:00:00 GMT", WHEN), ("0", None), ("", None)):
        async with scripted(Answer(b"", 302, {"location": "https://store/a.tar", "expires": text})) as (api, _):
            found = await checkpoints.checkpoint_archive_url(api, "r", "weights/a")
        assert (found.url, found.expires) == ("https://store/a.tar", expires)
    async with scripted(Answer(b"", 302)) as (api, _):
        with pytest.raises(errors.APIResponseError):
            await checkpoints.checkpoint_archive_url(api, "r", "weights/a")


async def test_checkpoints_of_older_servers_are_found_under_models():
    missing = Answer({"detail": "Not Found"}, 404)
    async with scripted(missing, Answer({"checkpoints": []})) as (api, script):
        assert (await checkpoints.list_checkpoints(api, "r")).checkpoints == ()
        assert script.asked[1].path.endswith("/models/r/checkpoints")
    async with scripted(Answer({"detail": "no such run"}, 404), missing) as (api, _):
        with pytest.raises(errors.NotFoundError, match="no such run"):
            await checkpoints.list_checkpoints(api, "r")


async def test_a_foreign_token_of_copied_weights_goes_into_its_header():
    request = ta.CopyWeightsRequest(
        source_path="tinker://r/weights/a", destination_project_id="p", weights_access_token="t0"
    )
    async with scripted(Answer({"tinker_path": "tinker://c/weights/a"})) as (api, script):
        await weights.copy_weights(api, request, key="key")
    assert script.asked[0].headers["x-tinker-weights-access-token"] == "t0"


async def test_a_name_never_leads_to_another_endpoint():
    async with scripted(Answer({})) as (api, script):
        for bad in ("../x", "weights/../x", "", "/x"):
            with pytest.raises(errors.InvalidInput):
                await checkpoints.delete_checkpoint(api, "r", bad, key="key")
        with pytest.raises(errors.InvalidInput):
            await listings.get_training_run(api, "..")
        assert script.asked == []


REQUEST = ta.SampleRequest(prompt=ta.ModelInput.from_ints([1]), sampling_params=ta.SamplingParams(max_tokens=4))


def stream(*events: bytes) -> Answer:
    return Answer(b"".join(b"%s\n\n" % event for event in events), headers={"content-type": "text/event-stream"})


async def collected(answer: Answer) -> Any:
    async with scripted(answer) as (api, script), sampling.stream_sample(api, REQUEST, key="key") as chunks:
        assert script.asked[0].headers["accept"] == "text/event-stream"
        assert script.asked[0].path.endswith("/stream_sample")
        return await chunks.collect()


@pytest.mark.parametrize(
    ("answer", "text", "reason", "error"),
    [
        (
            stream(
                b'data: {"token":"a","token_id":1,"logprob":-0.5}',
                b": awake",
                b'data: {"token":"b","finish_reason":"stop"}',
            ),
            "ab",
            "stop",
            None,
        ),
        (stream(b'event: token\ndata: {"token":"a"}', b"data: [DONE]", b"data: garbage"), "a", "stop", None),
        (stream(b'data: {"token":"a"}', b'event: done\ndata: {"total_tokens":1}'), "a", "stop", None),
        (stream(b'data: {"token":"a"}', b'data: {"error":"out of memory"}'), "a", None, "out of memory"),
        (stream(b'event: error\ndata: {"token":"broken"}'), "", None, "broken"),
        (stream(b"data: [DONE]"), "", "stop", None),
        (stream(b'event: done\ndata: {"total_tokens":0}'), "", "stop", None),
    ],
)
async def test_a_streamed_sample(answer: Answer, text: str, reason: str | None, error: str | None):
    whole = await collected(answer)
    assert (whole.text, whole.last.finish_reason, whole.last.error) == (text, reason, error)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (stream(b'data: {"token":"a"}'), errors.APIConnectionError),
        (stream(b"data: garbage"), errors.APIResponseError),
        (stream(b"data: 5"), errors.APIResponseError),
        (stream(b'data: {"token_id":"x"}'), errors.APIResponseError),
    ],
)
async def test_a_streamed_sample_that_ends_early_or_makes_no_sense_is_an_error(
    answer: Answer, kind: type[errors.APIError]
):
    async with scripted(answer) as (api, _), sampling.stream_sample(api, REQUEST, key="key") as chunks:
        with pytest.raises(kind, match="stream_sample"):
            await chunks.collect()


@pytest.mark.parametrize(
    "given", [WHEN, WHEN.replace(tzinfo=None), WHEN.astimezone(datetime.timezone(datetime.timedelta(hours=5)))]
)
async def test_an_hour_of_the_bill_is_told_in_utc(given: datetime.datetime):
    async with scripted(Answer({"data": []})) as (api, script):
        await listings.billing_usage(api, starting_on=given, ending_before=given)
    assert script.asked[0].query == "starting_on=2026-11-24T02:00:00Z&ending_before=2026-11-24T02:00:00Z"
