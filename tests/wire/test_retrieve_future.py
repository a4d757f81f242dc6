"""retrieve_future: every kind of reply, in the order in which the protocol tells them apart."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tinker_actors.types as ta
from tests.wire.scripted import KEY, Answer, scripted
from tinker_actors.codec.forward_backward_output import encode_forward_backward_output
from tinker_actors.codec.json import encode_json
from tinker_actors.codec.samples import encode_sample_response
from tinker_actors.errors import APIError, APIResponseError, APIStatusError, APITimeoutError, GoneError
from tinker_actors.wire.endpoints.futures import retrieve_future

PROTOBUF = {"content-type": "application/x-protobuf"}
SAMPLE = ta.SampleResponse(
    sequences=(
        ta.SampledSequence(stop_reason="stop", tokens=np.array([1, 2], np.int32), logprobs=np.zeros(2, np.float32)),
    )
)
OUTPUT = ta.ForwardBackwardOutput(
    loss_fn_output_type="ArrayRecord",
    loss_fn_outputs=({"logprobs": ta.TensorData([-1.0, -2.0])},),
    metrics={"loss:sum": 3.0},
)
STEP = ta.OptimStepResponse(metrics={"a:max": 1.0})


async def ask(answer: Answer, result_type: type[Any] = ta.OptimStepResponse, **options: Any) -> Any:
    async with scripted(answer) as (api, _):
        return await retrieve_future(
            api, "r-1", result_type, iteration=0, request_type="OptimStep", timeout=45.0, **options
        )


async def refused(answer: Answer, result_type: type[Any] = ta.OptimStepResponse) -> APIError:
    async with scripted(answer) as (api, _):
        with pytest.raises(APIError) as caught:
            await retrieve_future(api, "r-1", result_type, iteration=0, request_type="OptimStep", timeout=45.0)
    return caught.value


@pytest.mark.parametrize(
    ("answer", "result"),
    [
        (Answer(encode_sample_response(SAMPLE), headers=PROTOBUF), SAMPLE),
        (Answer(encode_json(SAMPLE)), SAMPLE),
        (Answer(encode_forward_backward_output(OUTPUT), headers=PROTOBUF), OUTPUT),
        (Answer(encode_json(OUTPUT)), OUTPUT),
        (Answer(encode_json(STEP)), STEP),
        (Answer({}), ta.OptimStepResponse()),
        (
            Answer({"type": "save_weights", "path": "tinker://r/weights/a"}),
            ta.SaveWeightsResponse(path="tinker://r/weights/a"),
        ),
        (Answer({"model_id": "m", "type": "create_model"}), ta.CreateModelResponse(model_id="m")),
        (Answer({"type": None, "path": None}), ta.LoadWeightsResponse()),
        # content type as some servers write it, and JSON under another name
        (Answer(encode_sample_response(SAMPLE), headers={"content-type": "Application/X-Protobuf; v=1"}), SAMPLE),
        (Answer(encode_json(STEP), headers={"content-type": "text/plain"}), STEP),
    ],
)
async def test_results_in_both_encodings(answer: Answer, result: Any):
    assert await ask(answer, type(result)) == result


@pytest.mark.parametrize(
    ("body", "result"),
    [
        (
            {"type": "try_again", "request_id": "x", "queue_state": "paused_capacity", "queue_state_reason": "busy"},
            ta.TryAgain(request_id="r-1", queue_state=ta.QueueState.PAUSED_CAPACITY, queue_state_reason="busy"),
        ),
        ({"type": "try_again"}, ta.TryAgain(request_id="r-1")),
        (
            {"type": "try_again", "queue_state": "new_state", "error": "x"},
            ta.TryAgain(request_id="r-1", queue_state=ta.QueueState.UNKNOWN),
        ),
        ({"status": "complete_metadata", "response_payload_size": 5}, ta.MetadataOnly(response_payload_size=5)),
        (
            {"status": "complete_metadata", "response_payload_size": 5, "error": "no"},
            ta.MetadataOnly(response_payload_size=5),
        ),
        ({"error": "boom"}, ta.FailedResult(error="boom")),
        (
            {"error": "yours", "category": "user", "metrics": {}},
            ta.FailedResult(error="yours", category=ta.RequestErrorCategory.USER),
        ),
        (
            {"type": "request_failed", "error": "hatchery's", "category": "user_error"},
            ta.FailedResult(error="hatchery's", category=ta.RequestErrorCategory.UNKNOWN),
        ),
        ({"error": None}, ta.FailedResult(error="the server gives no reason")),
        ({"error": {"code": 7}}, ta.FailedResult(error='{"code":7}')),
    ],
)
@pytest.mark.parametrize("result_type", [ta.OptimStepResponse, ta.SampleResponse])
async def test_what_is_no_result(body: object, result: object, result_type: type[Any]):
    assert await ask(Answer(body), result_type) == result


async def test_a_408_that_says_why_is_a_try_again_and_another_is_an_error():
    body = {"queue_state": "paused_rate_limit", "queue_state_reason": "slow"}
    expected = ta.TryAgain(request_id="r-1", queue_state=ta.QueueState.PAUSED_RATE_LIMIT, queue_state_reason="slow")
    assert await ask(Answer(body, 408)) == expected
    assert await ask(Answer({"detail": "Timeout"}, 408)) == ta.TryAgain(request_id="r-1")  # SkyRL's
    for bare in (b"", b"<html>Request Timeout</html>"):
        error = await refused(Answer(bare, 408))
        assert isinstance(error, APIStatusError)
        assert error.status == 408


@pytest.mark.parametrize(
    ("answer", "result_type"),
    [
        (Answer(b"\xff\xff", headers=PROTOBUF), ta.SampleResponse),
        (Answer(b"", headers=PROTOBUF), ta.OptimStepResponse),
        (Answer(b""), ta.OptimStepResponse),
        (Answer([]), ta.OptimStepResponse),
        (Answer({"metrics": {"a": "b"}}), ta.OptimStepResponse),
        (Answer(b'{"metrics":{"a":NaN}}'), ta.OptimStepResponse),
        (Answer({"status": "complete_metadata"}), ta.SampleResponse),
        (Answer({"status": "complete_metadata", "response_payload_size": -1}), ta.SampleResponse),
        (Answer({"sequences": [{"stop_reason": "later", "tokens": []}]}), ta.SampleResponse),
    ],
)
async def test_replies_that_make_no_sense(answer: Answer, result_type: type[Any]):
    error = await refused(answer, result_type)
    assert isinstance(error, APIResponseError)
    assert "/retrieve_future: HTTP 200" in str(error)


async def test_other_statuses_are_errors():
    assert isinstance(await refused(Answer({"detail": "promise expired"}, 410)), GoneError)


async def test_what_the_server_is_asked():
    async with scripted(Answer({"type": "try_again"})) as (api, script):
        for result_type in (ta.SampleResponse, ta.ForwardBackwardOutput, ta.OptimStepResponse):
            await retrieve_future(
                api, "r-1", result_type, iteration=3, request_type="Sample", timeout=45.0, allow_metadata_only=True
            )
    accepts = [asked.headers["accept"] for asked in script.asked]
    assert accepts == ["application/x-protobuf, application/json"] * 2 + ["application/json"]
    first = script.asked[0]
    assert first.path.endswith("/api/v1/retrieve_future")
    assert first.json == {"request_id": "r-1", "allow_metadata_only": True}
    assert first.headers["x-tinker-request-iteration"] == "3"
    assert first.headers["x-tinker-request-type"] == "Sample"
    assert "x-idempotency-key" not in first.headers


async def test_a_credential_in_a_failure_or_a_queue_reason_is_hidden():
    failed = await ask(Answer({"error": f"key {KEY} failed"}))
    waiting = await ask(Answer({"type": "try_again", "queue_state_reason": f"for {KEY}"}))
    assert failed.error == "key [hidden] failed"
    assert waiting.queue_state_reason == "for [hidden]"


async def test_one_poll_takes_no_longer_than_it_may(autojump_clock: object):
    async with scripted(Answer({})) as (api, _):
        network: Any = api._transport
        network._network.partition()
        with pytest.raises(APITimeoutError, match="45 s"):
            await retrieve_future(api, "r", ta.OptimStepResponse, iteration=0, request_type="OptimStep", timeout=45.0)
