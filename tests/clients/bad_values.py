"""Bad values for calls of trio's handles and of the blocking ones alike, and what their errors must say."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tinker_actors.types import (
    AdamParams,
    Datum,
    ModelInput,
    ProvenanceSpans,
    SampledProvenanceSpan,
    SamplingParams,
    TensorData,
)

__all__ = ["BAD_VALUES", "BadValue", "datum_for"]

BadValue = tuple[Callable[[Any, Any, Any], Any], str]
"""A call with a service, a training and a sampling client of a vocabulary of 32, and a pattern of its error."""

TOKENS = ModelInput.from_ints([1, 2, 3])
PROMPT = ModelInput.from_ints([1, 2])
NUMBERS = [0.5, -1.0, 0.25]
SPANS: ProvenanceSpans = (SampledProvenanceSpan(sequence_id="s", offset=0, length=3),)
STATE, WEIGHTS = "tinker://run/weights/name", "tinker://run/sampler_weights/name"
REWARDS: Mapping[str, Any] = {"target_tokens": [2, 3, 4], "logprobs": NUMBERS, "advantages": NUMBERS}
_NEEDED: Mapping[str, Mapping[str, Any]] = {
    "cross_entropy": {"target_tokens": [2, 3, 4], "weights": NUMBERS},
    "importance_sampling": REWARDS,
    "ppo": REWARDS,
    "cispo": REWARDS,
    "dro": REWARDS,
    "gspo": {**REWARDS, "sequence_ratio_mask": [0.0, 1.0, 1.0]},
    "stable_reinforce": REWARDS,
}


def datum_for(loss_fn: str, **changes: Any) -> Datum:
    """What ``loss_fn`` takes, with other inputs of ``changes``; None takes one out."""
    inputs = {**_NEEDED[loss_fn], **changes}
    datum = Datum(TOKENS, {name: value for name, value in inputs.items() if value is not None})
    spanned = loss_fn == "stable_reinforce"
    return datum.with_provenance(model_input=SPANS, loss_fn_inputs=SPANS) if spanned else datum


def _loss(loss_fn: str, said: str, **changes: Any) -> BadValue:
    """The second datum is wrong: the error names its place."""

    def call(_: Any, client: Any, __: Any) -> Any:
        data = [datum_for(loss_fn), datum_for(loss_fn, **changes)]
        return client.forward_backward(data, loss_fn)

    return call, rf"data\[1\]\.{said}"


def _of(name: str, said: str) -> str:
    return rf"loss_fn_inputs\['{name}'\]: {said}"


def _sampling(said: str, tokens: Any = (1, 2), num_samples: Any = 1, **params: Any) -> BadValue:
    return (
        lambda _, __, sampler: sampler.sample(ModelInput.from_ints(tokens), num_samples, SamplingParams(**params)),
        said,
    )


def _missing() -> dict[str, BadValue]:
    found: dict[str, BadValue] = {}
    for loss_fn, needed in _NEEDED.items():
        for name in needed:
            if (loss_fn, name) == ("stable_reinforce", "logprobs"):
                continue  # servers may have kept them
            listed = "token due" if name == "target_tokens" else f"{loss_fn} takes target_tokens, .*{name}"
            if name != "target_tokens" or loss_fn != "stable_reinforce":  # whose spans would lie about it first
                found[f"{loss_fn} without {name}"] = _loss(
                    loss_fn, rf"loss_fn_inputs: has no '{name}'. .*{listed}", **{name: None}
                )
    return found


BAD_VALUES: Mapping[str, BadValue] = {
    **_missing(),
    "an unknown loss": (
        lambda _, client, __: client.forward_backward([datum_for("ppo")], "grpo"),
        r"loss_fn: 'grpo' is not known\. Use one of cross_entropy, importance_sampling, .*extra_loss_fns",
    ),
    "a custom loss without its id": (
        lambda _, client, __: client.forward_backward([datum_for("cross_entropy")], "custom", {"beta": 1.0}),
        "loss_fn_config: does not name just a loss_id",
    ),
    "an input too many": _loss(
        "ppo", _of("mask", "is no input of ppo. It takes target_tokens, logprobs"), mask=np.ones(3)
    ),
    "another loss's input": _loss("cross_entropy", _of("advantages", "is no input of cross_"), advantages=NUMBERS),
    "a ragged input": (
        lambda _, client, __: client.forward_backward(
            [datum_for("cross_entropy", weights=[[1.0], [2.0, 3.0], [1.0]])]
        ),
        r"loss_fn_inputs\['weights'\]: is not a tensor of numbers",
    ),
    "a short input": (
        lambda _, client, __: client.forward_backward([datum_for("ppo", advantages=NUMBERS[:2])], "ppo"),
        r"loss_fn_inputs\['advantages'\]: has 2 rows for an input of 3 tokens",
    ),
    "an input of another shape": _loss(
        "cross_entropy", _of("weights", r"has shape \[3, 1\], target_tokens \[3\]"), weights=[[1.0], [2.0], [3.0]]
    ),
    "many targets where one is due": _loss(
        "ppo", _of("target_tokens", r"has shape \[3, 1\].*\[3\]"), target_tokens=[[1], [2], [3]]
    ),
    "integers for numbers": _loss(
        "ppo",
        _of("logprobs", "is a tensor of int64. Give numbers as float32"),
        logprobs=TensorData([1, 2, 3], "int64"),
    ),
    "numbers for token ids": _loss(
        "cross_entropy",
        _of("target_tokens", "is a tensor of float32. Give token ids as int64"),
        target_tokens=TensorData([1, 2, 3], "float32"),
    ),
    "words for numbers": (
        lambda _, client, __: client.forward_backward([datum_for("cross_entropy", weights=["a", "b", "c"])]),
        r"loss_fn_inputs\['weights'\]: holds values that are not numbers",
    ),
    "no provenance": (
        lambda _, client, __: client.forward_backward([Datum(TOKENS, REWARDS)], "stable_reinforce"),
        r"data\[0\]\.loss_fn_input_spans: is missing\. .*with_provenance",
    ),
    "NaN among weights": _loss("cross_entropy", _of("weights", "holds nan at index 1"), weights=[1.0, math.nan, 1.0]),
    "an infinite advantage": _loss("dro", _of("advantages", "holds inf at index 2"), advantages=[0.0, 1.0, math.inf]),
    "an impossible logprob": _loss("ppo", _of("logprobs", "holds -inf at index 0"), logprobs=[-math.inf, -1.0, -1.0]),
    "NaN in a custom loss's weights": (
        lambda _, client, __: client.forward_backward_custom(
            [datum_for("cross_entropy", weights=[math.nan] * 3)], lambda data, logprobs: 0.0, differentiation="own"
        ),
        r"data\[0\]\.loss_fn_inputs\['weights'\]: holds nan",
    ),
    "a token beyond the vocabulary": (
        lambda _, client, __: client.forward_backward([datum_for("cross_entropy", target_tokens=[1, 2, 32])]),
        "vocabulary of 32",
    ),
    "a learning rate of NaN": (
        lambda _, client, __: client.optim_step(AdamParams(learning_rate=math.nan)),
        "learning_rate",
    ),
    "sampler weights for a state": (
        lambda _, client, __: client.load_state(WEIGHTS),
        "names sampler weights where weights are due",
    ),
    "sampler weights to go on from": (
        lambda service, _, __: service.create_training_client_from_state(WEIGHTS),
        "names sampler weights where weights are due",
    ),
    "a state to sample from": (
        lambda service, _, __: service.create_sampling_client(model_path=STATE),
        "model_path: .* weights where sampler weights are due",
    ),
    "a state for a training client's sampler": (
        lambda _, client, __: client.create_sampling_client(STATE),
        "model_path: .* weights where sampler weights are due",
    ),
    "stops of two kinds": _sampling("stop: mixes types", stop=["a", 1]),
    "a stop that is empty": _sampling("stop: is empty", stop=""),
    "an empty stop among others": _sampling(r"stop\[1\]: is empty", stop=["a", ""]),
    "top_p of nothing": _sampling(r"top_p: 0.0 is out of range. Use a number in \(0, 1\]", top_p=0.0),
    "top_p above 1": _sampling("top_p: 1.5 is out of range", top_p=1.5),
    "top_p of NaN": _sampling("top_p: nan is out of range", top_p=math.nan),
    "a negative temperature": _sampling("temperature: -0.5 is out of range", temperature=-0.5),
    "a temperature of NaN": _sampling("temperature: nan is out of range", temperature=math.nan),
    "no samples": _sampling("num_samples: 0 is not positive. Ask for at least 1", num_samples=0),
    "no tokens": _sampling("max_tokens: 0 is not positive", max_tokens=0),
    "a negative prompt token": _sampling("tokens: holds an id outside 0 .*: -1 at index 1", tokens=[1, -1]),
    "a prompt token beyond the vocabulary": _sampling(
        r"prompt.chunks\[0\]: holds 32 at index 1, outside of the vocabulary of 32", tokens=[31, 32]
    ),
    "an empty prompt": _sampling("prompt: is empty", tokens=[]),
}
