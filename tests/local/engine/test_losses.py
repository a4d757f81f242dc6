"""Losses are the documented sums of the returned log-probabilities."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np
import pytest

from tests.local.engine.formulas import formula
from tests.local.engine.scenes import CONFIGS, MANY_TARGETS, make_datum, trained
from tinker_actors.clients.training.combine import combine_outputs
from tinker_actors.local.engine import TINY, Engine, ForwardBackward, OptimStep
from tinker_actors.types import (
    AdamParams,
    Datum,
    FloatArray,
    ForwardBackwardOutput,
    ModelInput,
    PromptProvenanceSpan,
    SampledProvenanceSpan,
    TensorData,
)


def output_of(
    data: tuple[Datum, ...], loss_fn: str, config: Mapping[str, float] | None = None
) -> ForwardBackwardOutput:
    engine = Engine()
    trained(engine)
    given = CONFIGS[loss_fn] if config is None else config
    return engine.apply(ForwardBackward("m", data, loss_fn, given, forward_only=True))


def data_of(loss_fn: str, count: int = 7) -> tuple[Datum, ...]:
    return tuple(make_datum(4 + 3 * seed, seed, vocabulary=32, loss_fn=loss_fn) for seed in range(count))


@pytest.mark.parametrize("loss_fn", CONFIGS)
def test_each_loss_is_the_documented_sum_of_the_log_probabilities_that_it_returns(loss_fn: str) -> None:
    data = data_of(loss_fn)
    output = output_of(data, loss_fn)
    assert all(key.count(":") == 1 for key in output.metrics)
    assert output.metrics["tokens:sum"] == sum(datum.model_input.length for datum in data)
    expected = 0.0
    for datum, record in zip(data, output.loss_fn_outputs, strict=True):
        lp = record["logprobs"].to_numpy()
        assert lp.shape == (datum.model_input.length,)
        assert lp.dtype == np.float32
        assert (lp < 0).all()
        lp = lp.astype(np.float64)
        expected += formula(loss_fn, lp, lp, datum, CONFIGS[loss_fn])
    assert output.metrics["loss:sum"] == pytest.approx(expected, rel=2e-5)


@pytest.mark.parametrize("loss_fn", CONFIGS)
def test_metrics_of_chunks_make_those_of_the_whole(loss_fn: str) -> None:
    data = data_of(loss_fn, 11)
    whole = output_of(data, loss_fn)
    assert "loss:sum" in whole.metrics
    for cuts in ([0, 4, 11], [0, 1, 2, 9, 11], list(range(12))):
        parts = [output_of(data[a:b], loss_fn) for a, b in itertools.pairwise(cuts)]
        combined = combine_outputs(parts)
        assert combined.loss_fn_outputs == whole.loss_fn_outputs
        assert combined.metrics == pytest.approx(whole.metrics, rel=1e-12, abs=1e-12)


def test_metrics_tell_of_the_positions_that_count() -> None:
    data = data_of("ppo")
    output = output_of(data, "ppo")
    low, high = CONFIGS["ppo"].values()
    logs: list[FloatArray] = []
    clipped = 0
    for datum, record in zip(data, output.loss_fn_outputs, strict=True):
        advantages = datum.tensor("advantages").to_numpy()
        log_ratio = (record["logprobs"].to_numpy() - datum.tensor("logprobs").to_numpy())[advantages != 0]
        signs, ratio = np.sign(advantages[advantages != 0]), np.exp(log_ratio)
        clipped += int((((signs > 0) & (ratio > high)) | ((signs < 0) & (ratio < low))).sum())
        logs.append(log_ratio)
    found = output.metrics
    assert 0 < found["clipped:sum"] == clipped
    assert found["ratio:min"] == pytest.approx(np.exp(np.concatenate(logs).min()), rel=1e-5)
    assert found["ratio:max"] == pytest.approx(np.exp(np.concatenate(logs).max()), rel=1e-5)
    assert found["kl:mean"] == pytest.approx(-np.mean([log_ratio.mean() for log_ratio in logs]), rel=1e-5)
    silent = Datum(data[0].model_input, dict(data[0].tensors()) | {"advantages": [0.0] * 4})
    found = output_of((silent,), "ppo").metrics
    assert (found["ratio:min"], found["ratio:max"], found["kl:mean"], found["clipped:sum"]) == (1.0, 1.0, 0.0, 0.0)


@pytest.mark.parametrize("loss_fn", ["importance_sampling", "ppo", "cispo"])
def test_a_position_without_advantage_counts_nothing_whatever_its_ratio(loss_fn: str) -> None:
    """A prompt's positions come with made-up log-probabilities."""
    inputs = {"target_tokens": [5, 6, 7], "logprobs": [-1000.0, -1000.0, -2.0], "advantages": [0.0, -0.0, 1.0]}
    output = output_of((Datum(ModelInput.from_ints([4, 5, 6]), inputs),), loss_fn, {})
    alone = inputs | {"logprobs": [0.0, 0.0, -2.0]}
    assert output.metrics == output_of((Datum(ModelInput.from_ints([4, 5, 6]), alone),), loss_fn, {}).metrics


@pytest.mark.parametrize("loss_fn", ["ppo", "cispo"])
def test_bounds_of_a_datums_own_come_before_those_of_the_configuration(loss_fn: str) -> None:
    data = data_of(loss_fn)
    own = tuple(
        Datum(
            datum.model_input,
            dict(datum.tensors())
            | {key: [value] * datum.model_input.length for key, value in CONFIGS[loss_fn].items()},
        )
        for datum in data
    )
    other = {"clip_low_threshold": 0.0, "clip_high_threshold": 0.1}
    assert output_of(own, loss_fn, other) == output_of(data, loss_fn)
    assert output_of(data, loss_fn, other) != output_of(data, loss_fn)


def test_gspo_with_one_advantage_is_the_papers_objective_for_each_token() -> None:
    """Equation 5 of the paper has one term for each response; here each token of it has that term."""
    lengths = (6, 9, 14)
    data = tuple(make_datum(length, length, vocabulary=32, loss_fn="gspo") for length in lengths)
    for advantage in (0.7, -0.7):
        given: list[Datum] = []
        for datum, length in zip(data, lengths, strict=True):
            inputs = {"advantages": [advantage] * length, "sequence_ratio_mask": [1.0] * length}
            given.append(Datum(datum.model_input, dict(datum.tensors()) | inputs))
        output = output_of(tuple(given), "gspo", {"clip_low_threshold": 0.7, "clip_high_threshold": 0.8})
        objective = 0.0
        for datum, record, length in zip(given, output.loss_fn_outputs, lengths, strict=True):
            old = datum.tensor("logprobs").to_numpy().astype(np.float64)
            likelihoods = np.exp(record["logprobs"].to_numpy().astype(np.float64).sum()), np.exp(old.sum())
            ratio = (likelihoods[0] / likelihoods[1]) ** (1 / length)
            objective += length * min(ratio * advantage, np.clip(ratio, 0.7, 0.8) * advantage)
        assert output.metrics["loss:sum"] == pytest.approx(-objective, rel=1e-4)


def test_gspo_of_a_prompt_alone_is_nothing() -> None:
    nothing = {name: [0.0, 0.0] for name in ("logprobs", "advantages", "sequence_ratio_mask")}
    inputs = {"target_tokens": [5, 6], **nothing}
    assert output_of((Datum(ModelInput.from_ints([4, 5]), inputs),), "gspo").metrics["loss:sum"] == 0.0


def test_stable_reinforce_counts_what_was_sampled_and_never_more_than_once() -> None:
    inputs = {"target_tokens": [5, 6, 7], "logprobs": [-9.0, -9.0, -0.01], "advantages": [5.0, 1.0, 1.0]}
    spans = [PromptProvenanceSpan(sequence_id="a", length=1), SampledProvenanceSpan(sequence_id="a", length=2)]
    datum = Datum(ModelInput.from_ints([4, 5, 6]), inputs).with_provenance(model_input=spans, loss_fn_inputs=spans)
    output = output_of((datum,), "stable_reinforce", {"kl_coeff": 0.0})
    lp = output.loss_fn_outputs[0]["logprobs"].tolist()
    assert lp[1] > -9.0
    assert lp[2] < -0.01
    assert output.metrics["loss:sum"] == pytest.approx(-lp[1] - np.exp(lp[2] + 0.01) * lp[2], rel=1e-5)
    assert output.metrics["clipped:sum"] == 1.0
    pulled = output_of((datum,), "stable_reinforce", {"kl_coeff": 2.0}).metrics["loss:sum"]
    distance = (lp[1] + 9.0) ** 2 + (lp[2] + 0.01) ** 2
    assert pulled == pytest.approx(output.metrics["loss:sum"] + distance, rel=1e-5)


def test_many_targets_are_many_weighted_log_probabilities() -> None:
    data = tuple(make_datum(4 + 3 * seed, seed, vocabulary=32, loss_fn=MANY_TARGETS) for seed in range(5))
    output = output_of(data, "cross_entropy")
    expected = 0.0
    for datum, record in zip(data, output.loss_fn_outputs, strict=True):
        targets, weights = datum.tensor("target_tokens").to_numpy(), datum.tensor("weights").to_numpy()
        logprobs = record["logprobs"]
        assert logprobs.dims == targets.shape
        for k in range(4):
            one = Datum(datum.model_input, {"target_tokens": targets[:, k], "weights": weights[:, k]})
            single = output_of((one,), "cross_entropy")
            assert single.loss_fn_outputs[0]["logprobs"].tolist() == logprobs.to_numpy()[:, k].tolist()
            expected += single.metrics["loss:sum"]
    assert output.metrics["loss:sum"] == pytest.approx(expected, rel=1e-5)
    assert output.metrics["tokens:sum"] == sum(datum.model_input.length for datum in data)


def test_sparse_targets_and_weights_are_dense_ones_that_take_less_room() -> None:
    rng = np.random.default_rng(3)
    dense: list[Datum] = []
    sparse: list[Datum] = []
    for length in (4, 9, 9, 20):
        listed = rng.random((length, 6)) < 0.3
        tensors = {
            "target_tokens": np.where(listed, rng.integers(1, 32, (length, 6)), 0),
            "weights": np.where(listed, rng.normal(size=(length, 6)), 0.0).astype(np.float32),
        }
        tokens = ModelInput.from_ints(rng.integers(1, 32, length))
        dense.append(Datum(tokens, {key: TensorData(array) for key, array in tensors.items()}))
        sparse.append(Datum(tokens, {key: TensorData.from_dense(array) for key, array in tensors.items()}))
    assert all(datum.tensor("weights").indices is not None for datum in sparse)
    assert output_of(tuple(sparse), "cross_entropy") == output_of(tuple(dense), "cross_entropy")
    digests: set[str] = set()
    for data in (dense, sparse):
        engine = Engine()
        trained(engine)
        engine.apply(ForwardBackward("m", tuple(data), "cross_entropy"))
        engine.apply(OptimStep("m", AdamParams(learning_rate=1e-2)))
        digests.add(engine.digest("m"))
    assert len(digests) == 1


def test_logprobs_are_those_of_the_target_under_the_model() -> None:
    """All targets' probabilities after one prefix add up to one."""
    engine = Engine()
    trained(engine)
    prefix = [5, 9, 3]
    data = tuple(_asking(prefix, token) for token in range(engine.base(TINY).config.vocab_size))
    output = engine.apply(ForwardBackward("m", data, "cross_entropy", {}, forward_only=True))
    last = np.array([record["logprobs"].to_numpy()[-1] for record in output.loss_fn_outputs], np.float64)
    assert np.exp(last).sum() == pytest.approx(1.0, abs=1e-5)


def _asking(prefix: list[int], token: int) -> Datum:
    return Datum(
        model_input=ModelInput.from_ints(prefix),
        loss_fn_inputs={"target_tokens": [*prefix[1:], token], "weights": [0.0, 0.0, 1.0]},
    )
