"""Bad input: one error that names the field, and nothing changed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
import pytest

from tests.local.engine.scenes import tiny_data, trained
from tinker_actors.errors import InvalidInput
from tinker_actors.local.engine import (
    MAX_RANK,
    TINY,
    CreateModel,
    Engine,
    ForwardBackward,
    Operation,
    OptimStep,
    SaveSampler,
    cost,
)
from tinker_actors.types import (
    AdamParams,
    Datum,
    ImageChunk,
    LoraConfig,
    ModelInput,
    SampleRequest,
    SamplingParams,
    TensorData,
)


def datum(tokens: list[int] | None = None, **inputs: Any) -> Datum:
    tokens = tokens or [5, 6, 7]
    return Datum(model_input=ModelInput.from_ints(tokens), loss_fn_inputs=inputs)


def forward(
    *data: Datum, loss_fn: str = "cross_entropy", config: Mapping[str, float | str] | None = None
) -> Operation:
    return ForwardBackward("m", data, loss_fn, config or {})


GOOD = {"target_tokens": [6, 7, 8], "weights": [1.0, 1.0, 1.0]}
RL = {"target_tokens": [6, 7, 8], "advantages": [1.0, 1.0, 1.0], "logprobs": [-1.0, -1.0, -1.0]}
LONG = list(range(65))

CASES: dict[str, tuple[Operation, str, str]] = {
    "no data": (forward(), "data", "is empty"),
    "unknown model": (ForwardBackward("x", tiny_data([1]), "cross_entropy"), "model_id", "there is no model 'x'"),
    "unknown model to step": (OptimStep("x", AdamParams()), "model_id", "there is no model"),
    "model exists": (CreateModel("m", TINY, LoraConfig(rank=2)), "model_id", "exists already"),
    "unknown base": (CreateModel("n", "some/model", LoraConfig(rank=2)), "base_model", "'some/model' is not known"),
    "rank": (CreateModel("n", TINY, LoraConfig(rank=MAX_RANK + 1)), "rank", "above the limit"),
    "token": (forward(datum(**GOOD), datum([5, 32, 7], **GOOD)), "data[1].model_input", "token 32 is outside"),
    "target": (
        forward(datum(**(GOOD | {"target_tokens": [6, 7, 99]}))),
        "data[0].loss_fn_inputs['target_tokens']",
        "token 99",
    ),
    "negative target": (
        forward(datum(**(GOOD | {"target_tokens": [6, -1, 8]}))),
        "data[0].loss_fn_inputs['target_tokens']",
        "token -1",
    ),
    "an image": (
        forward(Datum(ModelInput(chunks=(ImageChunk(b"a", "png", 3),)), GOOD)),
        "data[0].model_input",
        "holds more than text",
    ),
    "too long": (
        forward(datum([1] * 65, target_tokens=[1] * 65, weights=[1.0] * 65)),
        "data[0].model_input",
        "has 65 tokens",
    ),
    "unknown loss": (forward(datum(**GOOD), loss_fn="hinge"), "loss_fn", "'hinge' is not offered"),
    "a loss of the user's": (
        forward(datum(**RL), loss_fn="custom"),
        "loss_fn_config",
        "does not name just a loss_id",
    ),
    "setting": (forward(datum(**GOOD), config={"beta": 1.0}), "loss_fn_config", "'beta'"),
    "setting of another loss": (
        forward(datum(**RL), loss_fn="ppo", config={"beta": 1.0}),
        "loss_fn_config",
        "'beta'",
    ),
    "setting of text": (
        forward(datum(**RL), loss_fn="dro", config={"beta": "0.1"}),
        "loss_fn_config['beta']",
        "'0.1' is out of range",
    ),
    "setting that is none": (
        forward(datum(**RL), loss_fn="dro", config={"beta": math.nan}),
        "loss_fn_config['beta']",
        "nan is out of range",
    ),
    "negative setting": (
        forward(datum(**RL), loss_fn="dro", config={"beta": -0.1}),
        "loss_fn_config['beta']",
        "-0.1 is out of range",
    ),
    "crossing bounds": (
        forward(datum(**RL), loss_fn="cispo", config={"clip_low_threshold": 1.5}),
        "loss_fn_config['clip_low_threshold']",
        "1.5 is above clip_high_threshold, which is 1.2",
    ),
    "own bounds that cross": (
        forward(datum(**RL, clip_low_threshold=[0.9, 1.3, 0.9]), loss_fn="ppo"),
        "data[0].loss_fn_inputs['clip_low_threshold']",
        "crosses the other bound",
    ),
    "own high bound that crosses": (
        forward(datum(**RL, clip_high_threshold=[1.2, 0.7, 1.2]), loss_fn="ppo"),
        "data[0].loss_fn_inputs['clip_high_threshold']",
        "crosses the other bound",
    ),
    "own bounds below zero": (
        forward(datum(**RL, clip_low_threshold=[0.9, -0.1, 0.9]), loss_fn="cispo"),
        "data[0].loss_fn_inputs['clip_low_threshold']",
        "holds a negative number",
    ),
    "bounds where there are none": (
        forward(datum(**RL, clip_low_threshold=[0.9] * 3), loss_fn="importance_sampling"),
        "data[0].loss_fn_inputs['clip_low_threshold']",
        "is no input of importance_sampling",
    ),
    "a mask that is none": (
        forward(datum(**RL, sequence_ratio_mask=[0.0, 0.5, 1.0]), loss_fn="gspo"),
        "data[0].loss_fn_inputs['sequence_ratio_mask']",
        "holds other numbers than 0 and 1",
    ),
    "a mask that marks nothing": (
        forward(datum(**RL, sequence_ratio_mask=[0.0, 0.0, 0.0]), loss_fn="gspo"),
        "data[0].loss_fn_inputs['sequence_ratio_mask']",
        "marks no token",
    ),
    "no mask": (forward(datum(**RL), loss_fn="gspo"), "data[0].loss_fn_inputs", "'sequence_ratio_mask' is missing"),
    "bounds of gspo that cross": (
        forward(
            datum(**RL, sequence_ratio_mask=[0.0, 0.0, 1.0], clip_high_threshold=[1.0, 0.5, 1.0]), loss_fn="gspo"
        ),
        "data[0].loss_fn_inputs['clip_high_threshold']",
        "crosses the other bound",
    ),
    "no provenance": (
        forward(datum(**RL), loss_fn="stable_reinforce"),
        "data[0].loss_fn_input_spans",
        "is missing",
    ),
    "many targets of another loss": (
        forward(datum(**(RL | {"target_tokens": np.ones((3, 2), np.int64)})), loss_fn="importance_sampling"),
        "data[0].loss_fn_inputs['target_tokens']",
        "has 2 dimensions",
    ),
    "no target": (
        forward(datum(target_tokens=np.ones((3, 0), np.int64), weights=np.ones((3, 0), np.float32))),
        "data[0].loss_fn_inputs['target_tokens']",
        "has 0 targets for each position",
    ),
    "more targets than tokens": (
        forward(datum(target_tokens=np.ones((3, 33), np.int64), weights=np.ones((3, 33), np.float32))),
        "data[0].loss_fn_inputs['target_tokens']",
        "has 33 targets for each position",
    ),
    "a vast sparse tensor": (
        forward(
            datum(
                target_tokens=TensorData([1], "int64", [3, 2**40], [0, 1, 1, 1], [5]),
                weights=TensorData([1.0], "float32", [3, 2**40], [0, 1, 1, 1], [5]),
            )
        ),
        "data[0].loss_fn_inputs['target_tokens']",
        "targets for each position",
    ),
    "a sparse target": (
        forward(
            datum(
                target_tokens=TensorData([99], "int64", [3, 9], [0, 1, 1, 1], [5]),
                weights=TensorData([1.0], "float32", [3, 9], [0, 1, 1, 1], [5]),
            )
        ),
        "data[0].loss_fn_inputs['target_tokens']",
        "token 99",
    ),
    "ragged": (
        forward(datum(target_tokens=np.ones((3, 2), np.int64), weights=np.ones((3, 4), np.float32))),
        "data[0].loss_fn_inputs['weights']",
        "has shape [3, 4], target_tokens [3, 2]",
    ),
    "no weights": (forward(datum(target_tokens=[6, 7, 8])), "data[0].loss_fn_inputs", "'weights' is missing"),
    "no advantages": (
        forward(datum(target_tokens=[6, 7, 8], logprobs=[0.0] * 3), loss_fn="importance_sampling"),
        "data[0].loss_fn_inputs",
        "'advantages' is missing",
    ),
    "odd input": (
        forward(datum(**GOOD, mask=TensorData(np.ones(3, np.float32)))),
        "data[0].loss_fn_inputs['mask']",
        "is no input of cross_entropy",
    ),
    "whole numbers": (
        forward(datum(**(GOOD | {"weights": TensorData([1, 2, 3])}))),
        "data[0].loss_fn_inputs['weights']",
        "is a tensor of integers",
    ),
    "two dimensions": (
        forward(datum(**(GOOD | {"weights": np.ones((3, 2), np.float32)}))),
        "data[0].loss_fn_inputs['weights']",
        "has shape [3, 2], target_tokens [3]",
    ),
    "nan weight": (
        forward(datum(**(GOOD | {"weights": [1.0, math.nan, 1.0]}))),
        "data[0].loss_fn_inputs['weights']",
        "not finite",
    ),
    "infinite advantage": (
        forward(datum(**(RL | {"advantages": [1.0, math.inf, 1.0]})), loss_fn="importance_sampling"),
        "data[0].loss_fn_inputs['advantages']",
        "not finite",
    ),
}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_bad_operations_name_the_field_and_change_nothing(case: str) -> None:
    operation, field, problem = CASES[case]
    engine = Engine()
    digest = trained(engine)
    engine.apply(ForwardBackward("m", tiny_data(range(4)), "cross_entropy"))
    for attempt in (engine.check, engine.apply):
        with pytest.raises(InvalidInput) as caught:
            attempt(operation)
        assert caught.value.field == field
        assert problem in caught.value.problem
        assert caught.value.cure
    assert engine.digest("m") == digest
    assert engine.models() == ("m",)
    engine.apply(OptimStep("m", AdamParams()))
    assert engine.digest("m") == stepped()


def stepped() -> str:
    engine = Engine()
    trained(engine)
    engine.apply(ForwardBackward("m", tiny_data(range(4)), "cross_entropy"))
    engine.apply(OptimStep("m", AdamParams()))
    return engine.digest("m")


def test_a_loss_that_overflows_is_refused_and_leaves_the_gradient() -> None:
    engine = Engine()
    trained(engine)
    engine.apply(ForwardBackward("m", tiny_data(range(4)), "cross_entropy"))
    wild = datum(**(RL | {"logprobs": [-1000.0, -1.0, -1.0]}))
    engine.check(forward(wild, loss_fn="importance_sampling"))
    with pytest.raises(InvalidInput, match="loss is"):
        engine.apply(forward(*[datum(**RL)] * 40, wild, loss_fn="importance_sampling"))
    engine.apply(OptimStep("m", AdamParams()))
    assert engine.digest("m") == stepped()


def test_a_gradient_that_overflows_is_refused() -> None:
    engine = Engine()
    digest = trained(engine)
    with pytest.raises(InvalidInput, match="gradient is not finite"):
        engine.apply(forward(*[datum(**(GOOD | {"weights": [5e37, 5e37, 5e37]}))] * 60))
    assert engine.digest("m") == digest


def test_weights_that_exploded_are_named() -> None:
    engine = Engine()
    trained(engine)
    engine.apply(ForwardBackward("m", tiny_data(range(4)), "cross_entropy"))
    engine.apply(OptimStep("m", AdamParams(learning_rate=1e30)))
    with pytest.raises(InvalidInput, match=r"data\[0\]: its cross_entropy loss is nan"):
        engine.apply(forward(datum(**GOOD)))
    with pytest.raises(InvalidInput, match="snapshot: its weights give no finite probabilities"):
        engine.sample(TINY, engine.apply(SaveSampler("m")), sample([5]))


def sample(prompt: list[int] | None = None, *, more: dict[str, Any] | None = None, **params: Any) -> SampleRequest:
    tokens = ModelInput.from_ints(prompt) if prompt else ModelInput.empty()
    return SampleRequest(prompt=tokens, sampling_params=SamplingParams(seed=1, **params), **(more or {}))


SAMPLES: dict[str, tuple[SampleRequest, str]] = {
    "empty prompt": (sample(), "prompt"),
    "token": (sample([5, 40]), "prompt"),
    "full context": (sample([5] * 64), "prompt"),
    "no samples": (sample([5], more={"num_samples": 0}), "num_samples"),
    "top-k of the prompt": (sample([5], more={"topk_prompt_logprobs": 33}), "topk_prompt_logprobs"),
    "top-k of the samples": (sample([5], more={"topk_sample_logprobs": -1}), "topk_sample_logprobs"),
    "stop token": (sample([5], stop=[32]), "stop"),
    "empty stop": (sample([5], stop=["a", ""]), "stop"),
    "empty stop string": (sample([5], stop=""), "stop"),
}


@pytest.mark.parametrize("case", SAMPLES, ids=str)
def test_bad_samples_name_the_field(case: str) -> None:
    request, field = SAMPLES[case]
    engine = Engine()
    with pytest.raises(InvalidInput) as caught:
        engine.sample(TINY, None, request)
    assert caught.value.field == field
    with pytest.raises(InvalidInput):
        engine.check_sample(TINY, None, request)


def test_sampling_from_an_unknown_base() -> None:
    with pytest.raises(InvalidInput, match="base_model"):
        Engine().sample("some/model", None, sample([5]))


def test_a_snapshot_without_its_arrays_is_refused() -> None:
    engine = Engine()
    trained(engine)
    snapshot = engine.apply(SaveSampler("m"))
    fewer = {name: array for name, array in snapshot.weights.items() if "q_proj" not in name}
    with pytest.raises(InvalidInput, match="q_proj"):
        engine.sample(TINY, msgspec.structs.replace(snapshot, weights=fewer), sample([5]))


def test_cost_grows_with_the_work() -> None:
    def of(count: int, **more: bool) -> float:
        return cost(ForwardBackward("m", tiny_data(range(count)), "cross_entropy", {}, **more))

    assert 0 < of(1) < of(10)
    assert of(10, forward_only=True) < of(10)
    assert 0 < cost(sample([5], max_tokens=2)) < cost(sample([5], max_tokens=20))
    assert cost(OptimStep("m", AdamParams())) > 0
