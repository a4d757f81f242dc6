"""SamplingClient."""

from __future__ import annotations

from typing import Any

from tests.conformance.expectation import expects
from tests.conformance.expectations.service import SINCE_38, close, is_telemetry
from tests.conformance.expectations.training import is_tokenized
from tests.local.process import TINY


@expects("SamplingClient.sample")
def sample(seen: Any, _version: str) -> None:
    assert seen["sampled"] == seen["again"]  # the seed decides
    (first, *_), (second, *_) = seen["sampled"]
    assert first != second
    for tokens, stop_reason, logprobs in seen["sampled"]:
        assert (len(tokens), stop_reason, len(logprobs)) == (6, "length", 6)
        assert all(value < 0.0 for value in logprobs)
    tokens, stop_reason, logprobs = seen["greedy"]
    assert (len(tokens), stop_reason) == (4, "length")
    assert logprobs == close(seen["scores"][3:])
    stopped, reason, _ = seen["stopped"]
    assert (stopped, reason) == (tokens[: tokens.index(tokens[1]) + 1], "stop")
    assert seen["prompt"][0] is None
    assert seen["prompt"][1:] == close(seen["scores"][1:3])
    nothing, *rows = seen["topk"]
    assert nothing is None
    assert [len(row) for row in rows] == [2, 2]
    assert all(best[1] >= other[1] for best, other in rows)


@expects("SamplingClient.compute_logprobs")
def compute_logprobs(seen: Any, version: str) -> None:
    assert seen["scores"][0] is None
    assert seen["scores"][1:] == close(seen["trained"])
    if version == "0.38.0":
        assert seen["last"] == [None] * 7 + seen["scores"][7:]


def is_the_same_sampler(seen: Any, _version: str) -> None:
    """Another client, and a pickled copy of it, sample from the same weights."""
    assert seen["client"] == "SamplingClient"
    assert seen["made"] == seen["copied"] == seen["known"]
    assert len(seen["made"]) == 9
    assert seen["number"] > 0  # the copy numbers its requests apart


expects("SamplingClient.create")(is_the_same_sampler)
expects("SamplingClient.from_sampler_handle", SINCE_38)(is_the_same_sampler)
expects("SamplingClient.get_tokenizer")(is_tokenized)
expects("SamplingClient.get_telemetry")(is_telemetry)


@expects("SamplingClient.get_base_model")
def get_base_model(seen: Any, _version: str) -> None:
    assert seen["base"] == seen["model"] == TINY


@expects("SamplingClient.on_queue_state_change")
def on_queue_state_change(seen: Any, _version: str) -> None:
    assert seen is None


@expects("SamplingClient.get_sampler_handle", SINCE_38)
def get_sampler_handle(seen: Any, _version: str) -> None:
    assert seen == {"text": True, "secret": False}
