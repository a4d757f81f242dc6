"""Sampling: distribution, limits, stops, log-probabilities, cache."""

from __future__ import annotations

import math
import random
from typing import Any

import numpy as np
import pytest

from tests.local.engine.scenes import trained
from tinker_actors.errors import InvalidInput
from tinker_actors.local.engine import BASE_S, TINY, Engine, ForwardBackward, OptimStep, SaveSampler, Snapshot
from tinker_actors.local.engine.sampling import BYTE_OFFSET, Stops, choose
from tinker_actors.local.engine.transformer import Cache, decode, forward
from tinker_actors.types import (
    AdamParams,
    Datum,
    ModelInput,
    SampledSequence,
    SampleRequest,
    SampleResponse,
    SamplingParams,
)

TOLERANCE = 1e-4
"""Between sampled and recomputed log-probabilities: the shapes of the products differ, so last bits may."""


def request(
    prompt: list[int], *, num_samples: int = 1, more: dict[str, Any] | None = None, **params: Any
) -> SampleRequest:
    params.setdefault("seed", 7)
    return SampleRequest(
        prompt=ModelInput.from_ints(prompt),
        sampling_params=SamplingParams(**params),
        num_samples=num_samples,
        **(more or {}),
    )


@pytest.fixture(scope="module", params=[TINY, BASE_S])
def scene(request: pytest.FixtureRequest) -> tuple[Engine, str, Snapshot]:
    engine = Engine()
    trained(engine, base=request.param)
    return engine, request.param, engine.apply(SaveSampler("m"))


Scene = tuple[Engine, str, Snapshot]


def distribution(engine: Engine, base: str, snapshot: Snapshot | None, prompt: list[int]) -> np.ndarray:
    """The next token's log-probabilities, through topk_sample_logprobs."""
    size = engine.base(base).config.vocab_size
    answer = engine.sample(
        base, snapshot, request(prompt, max_tokens=1, stop=[], more={"topk_sample_logprobs": size})
    )
    topk = answer.sequences[0].topk_logprobs
    assert topk is not None
    assert topk[0] is not None
    assert [lp for _, lp in topk[0]] == sorted((lp for _, lp in topk[0]), reverse=True)
    result = np.full(size, np.nan)
    for token, lp in topk[0]:
        result[token] = lp
    return result


def chi_square_bound(cells: int) -> float:
    """Exceeded once in about 100,000 (Wilson and Hilferty's approximation); the seed is fixed anyway."""
    k = cells - 1
    return k * (1 - 2 / (9 * k) + 4.265 * math.sqrt(2 / (9 * k))) ** 3


def chi_square(counts: np.ndarray, probabilities: np.ndarray) -> tuple[float, int]:
    """Pearson's statistic, cells of less than five expected merged; and the number of cells."""
    expected = probabilities * counts.sum()
    big = expected >= 5
    observed = np.append(counts[big], counts[~big].sum())
    wanted = np.append(expected[big], expected[~big].sum())
    keep = wanted > 0
    assert observed[~keep].sum() == 0
    return float(((observed[keep] - wanted[keep]) ** 2 / wanted[keep]).sum()), int(keep.sum())


@pytest.mark.parametrize(
    "params",
    [
        {"temperature": 1.0},
        {"temperature": 0.5},
        {"temperature": 2.0, "top_k": 7},
        {"temperature": 1.0, "top_p": 0.7},
        {"temperature": 1.5, "top_k": 12, "top_p": 0.6},
    ],
    ids=str,
)
def test_samples_have_the_documented_distribution(params: dict[str, Any]) -> None:
    engine = Engine()
    trained(engine)
    snapshot = engine.apply(SaveSampler("m"))
    prompt = [1, 5, 9]
    lp = distribution(engine, TINY, snapshot, prompt)
    scaled = lp / params["temperature"]
    wanted = np.exp(scaled - scaled.max())
    order = np.argsort(-wanted)
    kept = order[: params["top_k"]] if "top_k" in params else order
    probabilities = np.zeros_like(wanted)
    probabilities[kept] = wanted[kept] / wanted[kept].sum()
    if "top_p" in params:
        total, nucleus = 0.0, []
        for token in kept:
            nucleus.append(token)
            total += probabilities[token]
            if total >= params["top_p"]:
                break
        reduced = np.zeros_like(wanted)
        reduced[nucleus] = probabilities[nucleus] / probabilities[nucleus].sum()
        probabilities = reduced
        assert 1 < len(nucleus) < len(kept)
    answer = engine.sample(TINY, snapshot, request(prompt, num_samples=4000, max_tokens=1, stop=[], **params))
    counts = np.bincount([int(s.tokens[0]) for s in answer.sequences], minlength=lp.size).astype(float)
    statistic, cells = chi_square(counts, probabilities)
    assert cells > 3
    assert statistic < chi_square_bound(cells)


def test_second_token_is_drawn_given_the_first() -> None:
    engine = Engine()
    trained(engine)
    snapshot = engine.apply(SaveSampler("m"))
    answer = engine.sample(TINY, snapshot, request([1, 5, 9], num_samples=6000, max_tokens=2, stop=[]))
    pairs = [s.tokens.tolist() for s in answer.sequences]
    first = max({pair[0] for pair in pairs}, key=[pair[0] for pair in pairs].count)
    seconds = [pair[1] for pair in pairs if pair[0] == first]
    lp = distribution(engine, TINY, snapshot, [1, 5, 9, first])
    counts = np.bincount(seconds, minlength=lp.size).astype(float)
    statistic, cells = chi_square(counts, np.exp(lp) / np.exp(lp).sum())
    assert statistic < chi_square_bound(cells)


def test_temperature_zero_takes_the_likeliest(scene: Scene) -> None:
    engine, base, snapshot = scene
    prompt = [1, 5, 9]
    answer = engine.sample(base, snapshot, request(prompt, max_tokens=6, temperature=0.0, stop=[]))
    for token in answer.sequences[0].tokens.tolist():
        assert token == int(distribution(engine, base, snapshot, prompt).argmax())
        prompt.append(token)


def test_equal_scores_take_the_lowest_id() -> None:
    scores = np.log(np.array([0.1, 0.3, 0.3, 0.3], np.float32))
    assert choose(scores, SamplingParams(temperature=0.0), random.Random(0)) == 1
    drawn = {choose(scores, SamplingParams(top_k=2), random.Random(seed)) for seed in range(50)}
    assert drawn == {1, 2}


def recomputed(engine: Engine, prompt: list[int], sequence: SampledSequence) -> np.ndarray:
    tokens = [*prompt, *sequence.tokens.tolist()]
    length = len(tokens) - 1
    datum = Datum(
        model_input=ModelInput.from_ints(tokens[:-1]),
        loss_fn_inputs={"target_tokens": tokens[1:], "weights": [1.0] * length},
    )
    output = engine.apply(ForwardBackward("m", (datum,), "cross_entropy", {}, forward_only=True))
    return output.loss_fn_outputs[0]["logprobs"].to_numpy()


@pytest.mark.parametrize("temperature", [0.7, 1.0, 3.0])
def test_sampled_logprobs_are_recomputed(scene: Scene, temperature: float) -> None:
    """Under the model itself, whatever the temperature; over several paddings of the cache."""
    engine, base, snapshot = scene
    prompt = [1, 5, 9, 17]
    answer = engine.sample(
        base, snapshot, request(prompt, num_samples=4, max_tokens=50, temperature=temperature, stop=[], top_k=20)
    )
    for sequence in answer.sequences:
        assert sequence.stop_reason == "length"
        assert sequence.tokens.size == 50
        assert sequence.logprobs is not None
        expected = recomputed(engine, prompt, sequence)[len(prompt) - 1 :]
        np.testing.assert_allclose(sequence.logprobs, expected, atol=TOLERANCE)


def test_prompt_logprobs_are_recomputed(scene: Scene) -> None:
    engine, base, snapshot = scene
    prompt = [1, 5, 9, 17, 20, 4]
    more = {"prompt_logprobs": True, "topk_prompt_logprobs": 3}
    answer = engine.sample(base, snapshot, request(prompt, max_tokens=1, more=more))
    assert answer.prompt_logprobs is not None
    assert answer.prompt_logprobs[0] is None
    assert len(answer.prompt_logprobs) == len(prompt)
    expected = recomputed(engine, prompt, answer.sequences[0])[: len(prompt) - 1]
    np.testing.assert_allclose(np.array(answer.prompt_logprobs[1:], float), expected, atol=TOLERANCE)
    assert answer.topk_prompt_logprobs is not None
    assert answer.topk_prompt_logprobs[0] is None
    for at in range(1, len(prompt)):
        row = answer.topk_prompt_logprobs[at]
        assert row is not None
        lp = distribution(engine, base, snapshot, prompt[:at])
        assert [token for token, _ in row] == np.argsort(-lp)[:3].tolist()
        np.testing.assert_allclose([value for _, value in row], np.sort(lp)[::-1][:3], atol=TOLERANCE)
    plain = engine.sample(base, snapshot, request(prompt, max_tokens=1))
    assert plain.prompt_logprobs is None
    assert plain.topk_prompt_logprobs is None
    assert plain.sequences == answer.sequences, "asking for more changes no sample"


def test_cache_gives_what_no_cache_gives(scene: Scene) -> None:
    engine, base, _ = scene
    weights = engine.base(base).weights
    tokens = np.random.default_rng(0).integers(0, engine.base(base).config.vocab_size, (1, 64))
    whole = forward(weights, tokens).hidden[0]
    cache = Cache(weights, 2)
    cache.fill(0, forward(weights, tokens[:, :16]).keys_and_values(11))
    for position in range(11, 64):
        step = decode(weights, cache, tokens[0, position : position + 1], np.array([position]))
        np.testing.assert_allclose(step[0, 0], whole[position], atol=5e-5)


def sampled(scene: Scene, **params: Any) -> SampleResponse:
    engine, base, snapshot = scene
    return engine.sample(base, snapshot, request([1, 5, 9], num_samples=30, temperature=2.0, **params))


def test_null_stop_is_end_of_text(scene: Scene) -> None:
    eos = scene[0].base(scene[1]).eos_id
    answer = sampled(scene, max_tokens=40)
    for sequence in answer.sequences:
        ended = sequence.tokens.tolist()[-1] == eos
        assert sequence.stop_reason == ("stop" if ended else "length")
        assert eos not in sequence.tokens.tolist()[:-1]
    assert any(sequence.stop_reason == "stop" for sequence in answer.sequences) or scene[1] == BASE_S


def test_empty_stop_never_stops(scene: Scene) -> None:
    answer = sampled(scene, max_tokens=40, stop=[])
    assert all(s.stop_reason == "length" and s.tokens.size == 40 for s in answer.sequences)


def test_stop_tokens_end_a_sequence_and_belong_to_it() -> None:
    engine = Engine()
    trained(engine)
    scene = (engine, TINY, engine.apply(SaveSampler("m")))
    free = sampled(scene, max_tokens=40, stop=[])
    for stop in ([13], [13, 20]):
        answer = sampled(scene, max_tokens=40, stop=stop)
        for sequence, whole in zip(answer.sequences, free.sequences, strict=True):
            tokens = whole.tokens.tolist()
            ends = [at for at, token in enumerate(tokens) if token in stop]
            expected = tokens[: ends[0] + 1] if ends else tokens
            assert sequence.tokens.tolist() == expected
            assert sequence.stop_reason == ("stop" if ends else "length")


def test_stop_strings_reach_across_tokens() -> None:
    """Every token is a byte, so a string of several bytes spans as many tokens."""
    engine = Engine()
    trained(engine)
    scene = (engine, TINY, engine.apply(SaveSampler("m")))
    free = sampled(scene, max_tokens=40, stop=[])
    some = next(s.tokens.tolist() for s in free.sequences if all(t >= 3 for t in s.tokens.tolist()[10:13]))
    text = bytes(token - 3 for token in some[10:13]).decode()
    assert len(text) == 3
    answer = sampled(scene, max_tokens=40, stop=text)
    stopped = 0
    for sequence, whole in zip(answer.sequences, free.sequences, strict=True):
        # the text of a special token is a mark that no string holds
        plain = "".join(chr(t - 3) if t >= 3 else "\N{REPLACEMENT CHARACTER}" for t in whole.tokens.tolist())
        at = plain.find(text)
        expected = len(plain) if at < 0 else at + 3
        assert sequence.tokens.tolist() == whole.tokens.tolist()[:expected]
        stopped += sequence.stop_reason == "stop"
    assert stopped >= 1


def test_stop_strings_do_not_reach_across_special_tokens() -> None:
    stops = Stops.of(SamplingParams(stop="ab"), 2)
    a, b, eos = ord("a") + BYTE_OFFSET, ord("b") + BYTE_OFFSET, 2
    for tokens, ends in (([a, b], True), ([a, eos, b], False), ([eos, a, b], True), ([b, a], False)):
        text = bytearray()
        assert [stops.ended_by(tokens[:end], text) for end in (1, 2, 3)[: len(tokens)]][-1] is ends, tokens


def test_stop_strings_of_the_packaged_model() -> None:
    engine = Engine()
    prompt = [1, *(byte + 3 for byte in b"copy: stop -> ")]

    def text(stop: list[str]) -> tuple[bytes, str]:
        answer = engine.sample(BASE_S, None, request(prompt, max_tokens=8, temperature=0.0, stop=stop)).sequences[0]
        return bytes(token - 3 for token in answer.tokens.tolist() if token >= 3), answer.stop_reason

    assert text([])[0].startswith(b"stop\n")
    assert text(["xyz", "p\n"]) == (b"stop\n", "stop")
    assert text(["to"]) == (b"sto", "stop")
    assert text(["opt"])[1] == "length"


def test_max_tokens_null_goes_up_to_the_context(scene: Scene) -> None:
    engine, base, snapshot = scene
    context = engine.base(base).config.max_context
    answer = engine.sample(base, snapshot, request([1, 5, 9], stop=[]))
    assert answer.sequences[0].tokens.size == context - 3
    full = engine.sample(base, snapshot, request([5] * (context - 1), stop=[], max_tokens=50))
    assert full.sequences[0].tokens.size == 1
    with pytest.raises(InvalidInput, match="no room in the context"):
        engine.sample(base, snapshot, request([5] * context, max_tokens=1))


def test_seeds() -> None:
    engine = Engine()
    once = engine.sample(TINY, None, request([1, 5], num_samples=4, max_tokens=12, seed=3, stop=[]))
    assert engine.sample(TINY, None, request([1, 5], num_samples=4, max_tokens=12, seed=3, stop=[])) == once
    assert engine.sample(TINY, None, request([1, 5], num_samples=4, max_tokens=12, seed=4, stop=[])) != once
    assert len({s.tokens.tobytes() for s in once.sequences}) == 4
    fewer = engine.sample(TINY, None, request([1, 5], num_samples=2, max_tokens=12, seed=3, stop=[]))
    assert fewer.sequences == once.sequences[:2]


def test_without_a_seed_the_place_in_the_session_gives_it() -> None:
    engine = Engine()

    def ask(seed: int | None = None, **place: Any) -> SampleResponse:
        asked = request([1, 5], max_tokens=12, stop=[], seed=None, more=place)
        return engine.sample(TINY, None, asked, seed=seed)

    assert ask(sampling_session_id="s", seq_id=1) == ask(sampling_session_id="s", seq_id=1)
    assert ask(sampling_session_id="s", seq_id=1) != ask(sampling_session_id="s", seq_id=2)
    assert ask(seed=5) == ask(seed=5)
    assert ask(seed=5) == engine.sample(TINY, None, request([1, 5], max_tokens=12, stop=[], seed=5))
    with pytest.raises(InvalidInput, match="seed"):
        ask()


def test_adapter_matters_and_base_is_untouched() -> None:
    engine = Engine()
    before = engine.sample(TINY, None, request([1, 5], max_tokens=20, stop=[]))
    trained(engine, steps=20)
    adapted = engine.sample(TINY, engine.apply(SaveSampler("m")), request([1, 5], max_tokens=20, stop=[]))
    assert adapted != before
    assert engine.sample(TINY, None, request([1, 5], max_tokens=20, stop=[])) == before


def test_a_snapshot_is_not_moved_by_later_training() -> None:
    engine = Engine()
    trained(engine)
    snapshot = engine.apply(SaveSampler("m"))
    before = engine.sample(TINY, snapshot, request([1, 5], max_tokens=20, stop=[]))
    other = Engine()
    trained(other)
    kept = other.apply(SaveSampler("m"))
    trained(other, "more", steps=5)
    other.apply(OptimStep("m", AdamParams(learning_rate=0.5)))
    assert other.sample(TINY, kept, request([1, 5], max_tokens=20, stop=[])) == before
