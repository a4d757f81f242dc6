"""What each regularizer computes: closed forms, and gradients that finite differences confirm."""

from __future__ import annotations

import math
import random
from typing import Any

import autograd.numpy as anp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinker_actors import Datum, InvalidInput, ModelInput
from tinker_actors.errors import GradientUnavailable
from tinker_actors.regularizers import (
    L1,
    L2,
    Consistency,
    ElasticNet,
    Entropy,
    GradientPenalty,
    KLDivergence,
    Orthogonality,
    evaluate,
)

X = np.array([1.0, -2.0, 3.0])


def rows(seed: int, *shape: int) -> Any:
    """Normalised log-probabilities."""
    scores = np.random.default_rng(seed).normal(size=shape)
    return scores - np.log(np.exp(scores).sum(-1, keepdims=True))


def datum(**inputs: Any) -> Datum:
    return Datum(ModelInput.from_ints([1, 2, 3]), {name: np.asarray(each) for name, each in inputs.items()})


def value(regularizer: Any, logprobs: Any, data: Any = ()) -> float:
    return evaluate("r", regularizer, data, logprobs).value


def metrics(regularizer: Any, logprobs: Any, data: Any = ()) -> Any:
    return evaluate("r", regularizer, data, logprobs).metrics


def slope(regularizer: Any, logprobs: Any, data: Any = ()) -> Any:
    gradients = evaluate("r", regularizer, data, logprobs, gradients=True).gradients
    assert gradients is not None
    return gradients


def test_l1_is_a_scalar_with_metrics():
    assert value(L1(), X) == 6
    assert value(L1(strength=0.5, reduction="mean"), X) == 1
    assert metrics(L1(strength=3), X) == {"l1_raw": 6, "l1_mean": 2}
    assert slope(L1(strength=2), np.array([1.0, -2.0, 0.0]))[0].tolist() == [2, -2, 0]
    assert value(L1(), [X, X[:1]]) == 7
    assert value(L1(reduction="mean"), [X, X[:1]]) == 7 / 4  # of all numbers, not of data


def test_the_probabilities_or_a_field_can_be_meant():
    lp = np.log([0.25, 0.5])
    assert value(L1(target="probs"), lp) == pytest.approx(0.75)
    assert slope(L1(target="probs"), lp)[0] == pytest.approx([0.25, 0.5])
    data = [datum(weights=[1.0, 0.0, -3.0]), datum(weights=[0.0, 1.0, 0.0])]
    assert value(L1(target="weights"), [X, X], data) == 5
    assert not np.any(slope(L1(target="weights"), [X, X], data))  # which nothing of the model moves
    with pytest.raises(InvalidInput, match="of which there is none"):
        L1(target="weights")((), X)
    with pytest.raises(InvalidInput, match=r"weights: is no loss input of data\[1\] \(it has rewards\)"):
        L1(target="weights")([data[0], datum(rewards=X)], [X, X])


def test_l2_can_be_centred_and_clipped():
    assert value(L2(), X) == 14
    assert slope(L2(), X)[0].tolist() == [2, -4, 6]
    assert value(L2(center="mean"), X) == pytest.approx(14 - 3 * (2 / 3) ** 2)
    assert metrics(L2(center="mean", reduction="mean"), X)["center"] == pytest.approx(2 / 3)
    assert metrics(L2(), X) == {"l2_raw": 14, "l2_mean": 14 / 3}
    assert value(L2(center=1.0), X) == 0 + 9 + 4
    assert value(L2(clip=1.5), X) == 1 + 2.25 + 2.25
    assert slope(L2(clip=1.5), X)[0].tolist() == [2, 0, 0]
    # the centre moves with the numbers
    assert slope(L2(center="mean"), X)[0] == pytest.approx(2 * (X - X.mean()))


def test_an_elastic_net_lies_between_both():
    for ratio, same in ((1.0, L1(strength=3)), (0.0, L2(strength=3))):
        net = ElasticNet(l1_ratio=ratio, strength=3)
        assert value(net, X) == value(same, X)
        assert slope(net, X)[0].tolist() == slope(same, X)[0].tolist()
    assert value(ElasticNet(), X) == 10
    assert metrics(ElasticNet(reduction="mean", l1_ratio=0.25), X)["l1_ratio"] == 0.25


def test_entropy_has_its_sign():
    flat, sure = np.log([[0.25] * 4]), np.array([[0.0, -800.0, -np.inf, -60.0]])
    assert value(Entropy(), flat) == pytest.approx(math.log(4))
    assert value(Entropy(normalize=True), flat) == pytest.approx(1)
    assert value(Entropy(), sure) == 0
    lp = rows(1, 5, 7)
    assert value(Entropy(), lp) >= 0 >= value(Entropy(mode="maximize"), lp)
    assert value(Entropy(mode="maximize"), lp) == -value(Entropy(), lp)
    assert value(Entropy(reduction="sum"), [lp, lp[:2]]) == pytest.approx(
        -sum((np.exp(part) * part).sum() for part in (lp, lp[:2]))
    )
    assert value(Entropy(reduction="none"), lp) == pytest.approx(value(Entropy(reduction="sum"), lp))
    assert slope(Entropy(reduction="sum"), lp)[0] == pytest.approx(-np.exp(lp) * (lp + 1))


def test_temperature_flattens():
    lp = rows(2, 3, 6)
    assert value(Entropy(temperature=5.0), lp) > value(Entropy(), lp)
    assert metrics(Entropy(temperature=5.0), lp)["temperature"] == 5
    assert value(Entropy(temperature=2.0), lp + 100) == pytest.approx(value(Entropy(temperature=2.0), lp))


def test_kl_of_equals_is_nothing_and_of_others_more():
    p, q = rows(3, 4, 5), rows(4, 4, 5)
    assert value(KLDivergence(reference_logprobs=p), p) == 0
    forward, reverse = (value(KLDivergence(reference_logprobs=q, direction=way), p) for way in ("forward", "reverse"))
    assert forward == pytest.approx((np.exp(p) * (p - q)).sum(-1).mean())
    assert reverse == pytest.approx((np.exp(q) * (q - p)).sum(-1).mean())
    both = KLDivergence(reference_logprobs=q, symmetric=True, direction="reverse")
    assert value(both, p) == pytest.approx((forward + reverse) / 2)
    assert slope(KLDivergence(reference_logprobs=q, reduction="sum"), p)[0] == pytest.approx(np.exp(p) * (p - q + 1))
    found = metrics(both, p)
    assert (found["kl_reverse"], found["kl_symmetric"]) == (1, 1)
    assert found["kl_min"] <= found["kl_divergence"] <= found["kl_max"]
    # a reference that excludes what the model says is far away, not infinitely
    assert value(KLDivergence(reference_logprobs=np.array([-np.inf, 0.0])), np.log([0.5, 0.5])) == pytest.approx(
        0.5 * 100 + 0.5 * math.log(0.5)
    )


def test_kl_finds_its_reference():
    p = [rows(5, 3), rows(6, 3)]
    data = [datum(base=rows(7, 3)), datum(base=rows(8, 3))]
    named = value(KLDivergence(reference_field="base"), p, data)
    assert named == pytest.approx(value(KLDivergence(reference_logprobs=[rows(7, 3), rows(8, 3)]), p))
    computed = KLDivergence(compute_reference=lambda data: [each.loss_fn_inputs["base"] for each in data])
    assert value(computed, p, data) == named
    with pytest.raises(InvalidInput, match="has no reference"):
        KLDivergence()
    with pytest.raises(InvalidInput, match=r"has shape \(2,\) at datum 0, its logprobs \(3,\)"):
        KLDivergence(reference_logprobs=[[0.0, 0.0], [0.0, 0.0]])((), p)
    with pytest.raises(InvalidInput, match="has 1 tensors where there are 2"):
        KLDivergence(reference_logprobs=rows(1, 3))((), p)


def test_consistency_compares_with_the_pair():
    data = [datum(original_logprobs=[1.0, 0.0, 3.0])]
    assert value(Consistency(), X, data) == pytest.approx(4 / 3)
    assert metrics(Consistency(), X, data) == {"consistency_mse": pytest.approx(4 / 3)}
    assert slope(Consistency(), X, data)[0] == pytest.approx([0, -4 / 3, 0])
    assert value(Consistency(metric="l1", reduction="sum"), X, data) == 2
    assert value(Consistency(pair_field="other"), X, [datum(other=X)]) == 0
    p, q = rows(9, 2, 4), rows(10, 2, 4)
    assert value(Consistency(metric="kl", reference_logprobs=q), p) == pytest.approx(
        value(KLDivergence(reference_logprobs=q, symmetric=True), p)
    )
    with pytest.raises(InvalidInput, match="original_logprobs"):
        Consistency()([datum(other=X)], X)


def test_cosines():
    def cosine(a: Any, b: Any) -> float:
        return value(Consistency(metric="cosine", reference_logprobs=b), a)

    assert cosine(np.array([1.0, 0.0]), np.array([0.0, 2.0])) == 1
    assert cosine(X, 2 * X) == pytest.approx(0)
    assert cosine(X, -X) == pytest.approx(2)
    assert cosine(0 * X, X) == 1
    assert slope(Consistency(metric="cosine", reference_logprobs=X), 0 * X)[0] == pytest.approx(
        -X / 1e-8 / np.sqrt(14)
    )


def test_orthogonality_of_rows():
    eye, same = np.eye(3), np.ones((2, 4))
    for mode in ("soft", "hard", "spectral"):
        assert value(Orthogonality(mode=mode), eye) == 0
    assert value(Orthogonality(), same) == pytest.approx(2)
    assert value(Orthogonality(normalize=False), same) == 2 * 16
    assert value(Orthogonality(mode="hard", normalize=False), same) == 2 * 16 + 2 * 9
    assert value(Orthogonality(mode="spectral", normalize=False), same) == (8 - 2) ** 2 + 2 * 16
    assert value(Orthogonality(mode="hard", normalize=False), 2 * X) == (4 * 14 - 1) ** 2  # a single row
    assert value(Orthogonality(axis="vocabulary"), same) == pytest.approx(12)
    # of several data, of one length: [batch, place, vocabulary]
    batch = np.random.default_rng(0).normal(size=(2, 3, 4))
    by_place = batch.transpose(1, 0, 2).reshape(3, 8)
    assert value(Orthogonality(axis="sequence"), list(batch)) == pytest.approx(value(Orthogonality(), by_place))
    assert value(Orthogonality(), list(batch)) == pytest.approx(value(Orthogonality(), batch.reshape(6, 4)))
    with pytest.raises(InvalidInput, match="different shapes"):
        Orthogonality()((), [X, X[:2]])


def test_a_gradient_penalty_in_both_modes():
    def loss(lp: Any) -> Any:
        return anp.sum(lp**2)

    norm = 2 * math.sqrt(14)
    assert value(GradientPenalty(loss_fn=loss), X) == pytest.approx((norm - 1) ** 2)
    assert metrics(GradientPenalty(loss_fn=loss), X) == {"gradient_norm": pytest.approx(norm)}
    assert slope(GradientPenalty(loss_fn=loss, target_norm=0.0), X)[0] == pytest.approx(8 * X)
    # the inner gradient may be of a function of both: 2 x lp, at x = lp
    mixed = slope(lambda _, lp: GradientPenalty(loss_fn=lambda x: anp.sum(x * x * lp), target_norm=0.0)((), lp), X)
    assert mixed[0] == pytest.approx(16 * X**3)
    data = [datum(reference_logprobs=3 * X)]
    between = GradientPenalty(loss_fn=loss, mode="interpolated", rng=random.Random(5), target_norm=0.0)
    share = random.Random(5).random()
    assert value(between, X, data) == pytest.approx((norm * (share + 3 * (1 - share))) ** 2)
    with pytest.raises(InvalidInput, match="rng: is missing"):
        GradientPenalty(loss_fn=loss, mode="interpolated")
    with pytest.raises(GradientUnavailable, match="does not come from the logprobs"):
        GradientPenalty(loss_fn=lambda lp: 3.0)((), X)


@pytest.mark.parametrize(
    "make",
    [
        lambda: L1(strength=math.nan),
        lambda: L1(reduction="product"),
        lambda: L1(target=""),
        lambda: L2(clip=0),
        lambda: L2(center="median"),
        lambda: L2(center=math.inf),
        lambda: ElasticNet(l1_ratio=1.5),
        lambda: Entropy(mode="both"),
        lambda: Entropy(temperature=0),
        lambda: Entropy(normalize=1),
        lambda: KLDivergence(reference_field=""),
        lambda: KLDivergence(reference_logprobs=X, direction="sideways"),
        lambda: KLDivergence(compute_reference=3),
        lambda: Consistency(metric="taste"),
        lambda: Orthogonality(mode="firm"),
        lambda: Orthogonality(axis="columns"),
        lambda: GradientPenalty(loss_fn=3),
        lambda: GradientPenalty(loss_fn=len, mode="input"),
        lambda: GradientPenalty(loss_fn=len, target_norm=math.nan),
    ],
)
def test_an_option_that_makes_no_sense_is_refused_where_it_is_given(make: Any):
    with pytest.raises(InvalidInput):
        make()


@pytest.mark.parametrize("logprobs", [[X, "no"], [[1.0, "x"]], np.zeros(0), [], ["a"]])
def test_what_is_no_logprobs_is_refused(logprobs: Any):
    with pytest.raises(InvalidInput, match="logprobs"):
        L1()((), logprobs)


def _smooth(x: Any) -> Any:
    return sum(anp.sum(anp.exp(each) * each) for each in x)


def _all(shapes: list[tuple[int, ...]], seed: int) -> list[Any]:
    pair = [rows(seed + 50 + index, *shape) for index, shape in enumerate(shapes)]
    found: list[Any] = [
        L1(target="probs", reduction="mean"),
        L1(strength=0.3),
        L2(center="mean", clip=1.0),
        L2(target="probs", reduction="mean", center=0.5),
        ElasticNet(l1_ratio=0.3),
        Entropy(temperature=1.7, normalize=True),
        Entropy(mode="maximize", reduction="sum"),
        Entropy(reduction="none"),
        KLDivergence(reference_logprobs=pair),
        KLDivergence(reference_logprobs=pair, direction="reverse", reduction="sum"),
        KLDivergence(reference_logprobs=pair, symmetric=True, reduction="none"),
        *(Consistency(metric=metric, reference_logprobs=pair) for metric in ("mse", "l1", "cosine", "kl")),
        GradientPenalty(loss_fn=_smooth),
    ]
    if len(set(shapes)) == 1:
        found += [
            Orthogonality(mode=mode, axis=axis, normalize=normalize)
            for mode in ("soft", "hard", "spectral")
            for axis in ("rows", "sequence", "vocabulary")
            for normalize in (True, False)
        ]
    return found


@given(st.data())
def test_every_gradient_is_what_finite_differences_say(data: st.DataObject):
    shape = st.sampled_from([(3,), (2, 3), (1, 4), (4,)])
    first = data.draw(shape)
    alike = data.draw(st.booleans())
    shapes = [first, *([first] if alike else data.draw(st.lists(shape, max_size=2)))]
    seed = data.draw(st.integers(0, 10_000))
    x = [rows(seed + index, *each) for index, each in enumerate(shapes)]
    regularizer = data.draw(st.sampled_from(_all(shapes, seed)))
    found = slope(regularizer, x)
    along = [np.random.default_rng(seed).normal(size=each) for each in shapes]
    step = 1e-6
    ends = [
        value(regularizer, [each + sign * step * way for each, way in zip(x, along, strict=True)]) for sign in (1, -1)
    ]
    expected = (ends[0] - ends[1]) / (2 * step)
    given_ = sum(float((gradient * way).sum()) for gradient, way in zip(found, along, strict=True))
    # a kink (of |x| or of a clip) between both ends is left to the closed forms
    assert given_ == pytest.approx(expected, rel=2e-4, abs=2e-5)
