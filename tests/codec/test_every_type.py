"""Every value in JSON: there and back, past the official SDK's own models, and from bytes that are none."""

import datetime
import importlib
from contextlib import suppress
from typing import Any, get_args, get_type_hints

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinker_actors.types as ta
from tinker_actors.codec.forward_backward_json import decode_forward_backward_json, encode_forward_backward_json
from tinker_actors.codec.json import decode_json, encode_json
from tinker_actors.errors import InvalidInput
from tinker_actors.testing.strategies import all_types, json_types, values

TYPES = json_types()
EACH = settings(max_examples=100)  # of each of 128 types; all types together get what the profile says
SDK_NAMES = {
    "CheckpointArchiveUrlResponse": None,  # gone from 0.38
    "CreateCustomLossRequest": None,  # its graph has a grammar of its own, not ours to read
    "RetrieveFuturesRequest": "futures_retrieve_request.FuturesRetrieveRequest",
    "RetrieveFuturesResponse": "futures_retrieve_response.FuturesRetrieveResponse",
    "FutureFinished": "future_completion.FutureFinished",
    "FutureFailed": "future_completion.FutureFailed",
    "SamplingSessionTarget": "futures_retrieve_request.SamplingSessionFuturesTarget",
    "SessionActive": "session_status.SessionActive",
    "SessionCancelled": "session_status.SessionCancelled",
    "SessionClientFinished": "session_status.ClientSessionFinished",
    "SessionFailed": "session_status.SessionFailed",
    "OwnSearchOwner": "search_owner.OwnSearchOwner",
    "UserSearchOwner": "search_owner.UserSearchOwner",
    "ClientFinishedStatusQuery": "session_status_query.ClientFinishedSessionStatusQuery",
    "ClientDynamicConfig": "client_dynamic_config_response.ClientDynamicConfigResponse",
    "ClientConfig": "client_config_response.ClientConfigResponse",
    "BillingUsageEvent": "billing_usage_response.BillingUsageEvent",
    "SupportedModel": "get_server_capabilities_response.SupportedModel",
    "AdamParams": "optimizer.AdamParams",
    "DimuonParams": "optimizer.DimuonParams",
    "SessionIdRequest": "session_heartbeat_request.SessionHeartbeatRequest",
    "ModelIdRequest": "get_info_request.GetInfoRequest",
    "RetrieveFutureRequest": "future_retrieve_request.FutureRetrieveRequest",
}
# Theirs are no models of pydantic's, but plain classes that hold arrays.
OTHER_CLASSES = {
    "Datum",
    "ForwardBackwardOutput",
    "PromptAltTokens",
    "SampledSequence",
    "SampleResponse",
    "TensorData",
}
# What the official SDK must be told though ours may leave it out for older servers, and what it never reads there.
REQUIRED = {"TelemetryBatch": ("process_uuid",)}
NOT_READ = {
    "ClientConfig": {"server_class": None},
    "CreateModelRequest": {"optimizer_config": {"type": "adamw"}},
    "GetInfoResponse": {"optimizer_config": {"type": "adamw"}, "model_data": ta.ModelData(model_name="m")},
    "OptimStepRequest": {"optimizer_params": None, "adam_params": ta.AdamParams()},
    "SaveWeightsExternalResponse": {"size_bytes": None, "path": "tinker://r/external_weights/a"},
    "SaveWeightsForSamplerResponse": {"sampling_session_id": None, "path": "p"},
    "WeightsInfoResponse": {"optimizer_config": {"type": "adamw"}},
}


def sdk_model(kind: type[Any]) -> Any:
    name = kind.__name__
    if name in OTHER_CLASSES or SDK_NAMES.get(name, "") is None:
        return None
    snake = "".join(f"_{c.lower()}" if c.isupper() else c for c in name).lstrip("_")
    module, _, cls = SDK_NAMES.get(name, f"{snake}.{name}").partition(".")
    pytest.importorskip("tinker")
    try:
        return getattr(importlib.import_module(f"tinker.types.{module}"), cls)
    except ModuleNotFoundError:
        return None


KNOWN = [kind for kind in TYPES if hasattr(sdk_model(kind), "model_validate_json")]


def check_round_trip(kind: type[Any], data: st.DataObject) -> None:
    value = data.draw(values(kind))
    assert decode_json(encode_json(value), kind) == value


@pytest.mark.parametrize(
    "group", sorted({kind.__module__ for kind in TYPES}), ids=lambda name: name.rpartition(".")[2]
)
@given(st.data())
def test_round_trip(group: str, data: st.DataObject):
    check_round_trip(data.draw(st.sampled_from([kind for kind in TYPES if kind.__module__ == group])), data)


@pytest.mark.ci
@pytest.mark.parametrize("kind", TYPES, ids=lambda kind: kind.__name__)
@EACH
@given(st.data())
def test_round_trip_of_each_type(kind: type[Any], data: st.DataObject):
    check_round_trip(kind, data)


def compare(kind: type[Any], data: st.DataObject) -> None:
    required = REQUIRED.get(kind.__name__, ())
    value = data.draw(values(kind).filter(lambda made: all(getattr(made, name) is not None for name in required)))
    value = msgspec.structs.replace(value, **NOT_READ.get(kind.__name__, {}))
    theirs = sdk_model(kind).model_validate_json(encode_json(value))
    assert decode_json(theirs.model_dump_json(exclude_none=True).encode(), kind) == value


@given(st.sampled_from(KNOWN), st.data())
def test_the_sdks_models_read_what_we_write_and_we_what_they_write(kind: type[Any], data: st.DataObject):
    compare(kind, data)


@pytest.mark.ci
@pytest.mark.parametrize("kind", KNOWN, ids=lambda kind: kind.__name__)
@EACH
@given(st.data())
def test_the_sdks_model_of_each_type_reads_what_we_write(kind: type[Any], data: st.DataObject):
    compare(kind, data)


def test_nearly_every_type_that_the_sdk_has_was_compared():
    assert len(KNOWN) > 60


@given(values(ta.ForwardBackwardRequest))
def test_a_batch_in_json_as_old_servers_take_it(request_: ta.ForwardBackwardRequest):
    body = encode_forward_backward_json(request_)
    assert decode_forward_backward_json(body) == request_
    key = "forward_input" if request_.forward_only else "forward_backward_input"
    assert msgspec.json.decode(body).keys() == {key, "model_id", "seq_id"}


@given(st.sampled_from(all_types()), st.data())
def test_there_are_values_of_every_type(kind: type[Any], data: st.DataObject):
    assert isinstance(data.draw(values(kind, finite=False)), kind)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-24T01:59:48.980631Z", datetime.datetime(2026, 11, 24, 1, 59, 48, 980631, datetime.UTC)),
        ("2026-11-24T03:59:48+02:00", datetime.datetime(2026, 11, 24, 1, 59, 48, 0, datetime.UTC)),
        ("2026-11-24T01:59:48", datetime.datetime(2026, 11, 24, 1, 59, 48, 0, datetime.UTC)),
    ],
)
def test_times_have_an_offset_and_are_utc_where_a_server_gives_none(text: str, expected: datetime.datetime):
    body = f'{{"urls":{{}},"expires":"{text}"}}'.encode()
    found = decode_json(body, ta.ExternalWeightsUrlsResponse)
    assert found.expires == expected
    assert found.expires.tzinfo is not None
    assert decode_json(encode_json(found), ta.ExternalWeightsUrlsResponse) == found


def test_null_absent_and_not_given_are_kept_apart():
    assert encode_json(ta.SetTtlRequest(ttl_seconds=None)) == b'{"ttl_seconds":null}'
    assert encode_json(ta.CancelFutureRequest(request_id="r")) == b'{"request_id":"r"}'
    assert encode_json({"a": None, "b": ta.NOT_GIVEN, "c": ta.OMIT, "d": {"e": ta.OMIT}, "f": 0}) == (
        b'{"a":null,"d":{},"f":0}'
    )


SENT = [kind for kind in TYPES if kind.__name__.endswith("Request") or kind is ta.TelemetryBatch]
SAYS_NULL = {"FinishSessionRequest": {"detail"}, "SetTtlRequest": {"ttl_seconds"}}
THE_USERS = {"event_data", "graph"}  # objects of any content, theirs to say null in


def places_of_null(value: Any, within: str = "") -> set[str]:
    if isinstance(value, dict):
        return {
            place
            for name, item in value.items()
            if name not in THE_USERS
            for place in places_of_null(item, f"{within}.{name}".lstrip("."))
        }
    if isinstance(value, list):
        return {place for item in value for place in places_of_null(item, f"{within}[]")}
    return {within} if value is None else set()


@pytest.mark.parametrize("kind", SENT, ids=lambda kind: kind.__name__)
@settings(max_examples=30)
@given(st.data())
def test_nothing_optional_is_sent_as_null(kind: type[Any], data: st.DataObject):
    """The hosted service refuses a null for an optional field; where null says something of its own, it is sent."""
    given_ = data.draw(values(kind))
    fields = [field.name for field in msgspec.structs.fields(kind) if not field.required]
    emptied = {name: None for name in fields if data.draw(st.booleans()) and may_be_none(kind, name)}
    with suppress(InvalidInput):  # it needs one of them
        given_ = msgspec.structs.replace(given_, **emptied)
    found = places_of_null(msgspec.json.decode(encode_json(given_)))
    allowed = SAYS_NULL.get(kind.__name__, set())
    assert found == {name for name in allowed if getattr(given_, name) is None}


def may_be_none(kind: type[Any], name: str) -> bool:
    return type(None) in get_args(get_type_hints(kind)[name])


@pytest.mark.parametrize("value", [{"a": object()}, {"a": "\ud800"}, {1j: 1}])
def test_what_json_has_no_form_for_is_refused(value: object):
    with pytest.raises(InvalidInput):
        encode_json(value)
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(InvalidInput, match="deep"):
        encode_json(deep)
