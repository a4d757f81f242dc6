"""A digest is that of the content, whichever side of the wire computes it."""

from __future__ import annotations

import pytest

from tinker_actors.codec.digest import operation_digest
from tinker_actors.codec.json import decode_json, encode_json
from tinker_actors.types import (
    AdamParams,
    LoadWeightsRequest,
    OptimStepRequest,
    SaveWeightsForSamplerRequest,
    SaveWeightsRequest,
)

REQUESTS = [
    OptimStepRequest(model_id="m", seq_id=1, adam_params=AdamParams()),
    OptimStepRequest(model_id="m", seq_id=1, adam_params=AdamParams(learning_rate=0.1 + 0.2, eps=1e-8)),
    SaveWeightsRequest(model_id="m", seq_id=1, path="a"),
    SaveWeightsRequest(model_id="m", seq_id=1, path="a", ttl_seconds=5),
    SaveWeightsForSamplerRequest(model_id="m", seq_id=1, path="a"),
    SaveWeightsForSamplerRequest(model_id="m", seq_id=1, sampling_session_seq_id=1),
    LoadWeightsRequest(model_id="m", seq_id=1, path="tinker://r/weights/a", optimizer=True),
    LoadWeightsRequest(model_id="m", seq_id=1, path="tinker://r/weights/a", optimizer=False),
]


@pytest.mark.parametrize("request_", REQUESTS, ids=repr)
def test_both_sides_find_the_same_digest(
    request_: OptimStepRequest | SaveWeightsRequest | SaveWeightsForSamplerRequest | LoadWeightsRequest,
) -> None:
    received = decode_json(encode_json(request_), type(request_))
    assert received == request_
    assert operation_digest(received) == operation_digest(request_)


def test_different_requests_have_different_digests() -> None:
    assert len({operation_digest(request) for request in REQUESTS}) == len(REQUESTS)
