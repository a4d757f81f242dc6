"""Bits: a result never depends on neighbours, on the split into requests, on slots, processes or BLAS threads."""

from __future__ import annotations

import itertools
import random
import subprocess
import sys
import threading
from collections.abc import Sequence

import numpy as np
import pytest
import threadpoolctl

from tests.local.engine.scenes import CONFIGS, MANY_TARGETS, make_datum, tiny_data, trained
from tinker_actors.local.engine import (
    BASE_S,
    TINY,
    CreateModel,
    Engine,
    ForwardBackward,
    OptimStep,
    SaveSampler,
    sampling,
)
from tinker_actors.local.engine.threads import fixed_blas_threads
from tinker_actors.types import (
    AdamParams,
    Datum,
    LoraConfig,
    ModelInput,
    SampleRequest,
    SampleResponse,
    SamplingParams,
)

BASES = [TINY, BASE_S]


def vocabulary_of(base: str) -> int:
    return Engine().base(base).config.vocab_size


def data_for(base: str, count: int, seed: int = 0, *, loss_fn: str = "cross_entropy") -> tuple[Datum, ...]:
    rng, vocabulary = random.Random(seed), vocabulary_of(base)
    return tuple(
        make_datum(rng.randint(2, 60), seed + at, vocabulary=vocabulary, loss_fn=loss_fn) for at in range(count)
    )


def digest_after(base: str, requests: Sequence[Sequence[Datum]], *, loss_fn: str = "cross_entropy") -> str:
    engine = Engine()
    trained(engine, base=base, steps=2)
    for data in requests:
        engine.apply(ForwardBackward("m", tuple(data), loss_fn, CONFIGS[loss_fn]))
    engine.apply(OptimStep("m", AdamParams(learning_rate=1e-3)))
    return engine.digest("m")


@pytest.mark.parametrize("base", BASES)
def test_split_into_requests_changes_no_bit(base: str) -> None:
    data = data_for(base, 40)
    whole = digest_after(base, [data])
    assert digest_after(base, [data[:8], data[8:]]) == whole
    assert digest_after(base, [[datum] for datum in data]) == whole
    rng = random.Random(1)
    for _ in range(3):
        cuts = [0, *sorted(rng.sample(range(1, 40), 5)), 40]
        assert digest_after(base, [data[a:b] for a, b in itertools.pairwise(cuts)]) == whole


@pytest.mark.parametrize("loss_fn", [*CONFIGS, MANY_TARGETS])
def test_split_into_requests_changes_no_bit_of_any_loss(loss_fn: str) -> None:
    data = data_for(TINY, 24, loss_fn=loss_fn)
    if loss_fn == MANY_TARGETS:  # among data with one target for each position
        data = tuple(itertools.chain(*zip(data, data_for(TINY, 24, 90), strict=True)))
    loss_fn = loss_fn.partition(" ")[0]
    whole = digest_after(TINY, [data], loss_fn=loss_fn)
    assert digest_after(TINY, [[datum] for datum in data], loss_fn=loss_fn) == whole
    assert digest_after(TINY, [data[:5], data[5:6], data[6:]], loss_fn=loss_fn) == whole


@pytest.mark.parametrize("base", BASES)
def test_a_datum_never_sees_its_neighbours(base: str) -> None:
    engine = Engine()
    trained(engine, base=base, steps=2)
    subject = make_datum(21, 77, vocabulary=vocabulary_of(base))
    alone = engine.apply(ForwardBackward("m", (subject,), "cross_entropy", {}, forward_only=True))
    rng = random.Random(2)
    for trial in range(8):
        others = list(data_for(base, rng.randint(1, 40), seed=100 + trial))
        place = rng.randint(0, len(others))
        others.insert(place, subject)
        found = engine.apply(ForwardBackward("m", tuple(others), "cross_entropy", {}, forward_only=True))
        assert found.loss_fn_outputs[place] == alone.loss_fn_outputs[0]


def test_order_of_summation_is_the_order_of_data() -> None:
    """Data of several paddings are computed by length, but added in order."""
    data = data_for(TINY, 12)
    assert len({digest_after(TINY, [data]), digest_after(TINY, [data[::-1]])}) == 2


PROGRAM = """
from tests.local.engine.scenes import trained
from tests.local.engine.test_bits import data_for, digest_after
print(digest_after("tinker-actors/base-s", [data_for("tinker-actors/base-s", 8)]))
"""


def test_processes_agree() -> None:
    found = {digest_after(BASE_S, [data_for(BASE_S, 8)])}
    for _ in range(2):
        done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        found.add(done.stdout.strip())
    assert len(found) == 1


def test_forward_only_leaves_no_trace() -> None:
    engine = Engine()
    trained(engine)
    data = tiny_data(range(5))
    before = engine.digest("m")
    engine.apply(ForwardBackward("m", data, "cross_entropy", {}, forward_only=True))
    assert engine.digest("m") == before
    engine.apply(OptimStep("m", AdamParams(learning_rate=1e-3)))
    other = Engine()
    trained(other)
    other.apply(OptimStep("m", AdamParams(learning_rate=1e-3)))
    assert engine.digest("m") == other.digest("m")


def test_forward_gives_what_forward_backward_gives() -> None:
    engine = Engine()
    trained(engine)
    data = tiny_data(range(9))
    assert engine.apply(ForwardBackward("m", data, "cross_entropy", {}, forward_only=True)) == engine.apply(
        ForwardBackward("m", data, "cross_entropy")
    )


def sample_requests(base: str, count: int, seed: int) -> list[SampleRequest]:
    rng = random.Random(seed)
    vocabulary = vocabulary_of(base)
    requests = []
    for number in range(count):
        prompt = ModelInput.from_ints([rng.randrange(vocabulary) for _ in range(rng.randint(1, 40))])
        params = SamplingParams(
            max_tokens=rng.randint(1, 20), seed=number, temperature=rng.choice([0.0, 1.0, 2.0]), stop=[]
        )
        requests.append(
            SampleRequest(
                prompt=prompt, sampling_params=params, num_samples=rng.choice([1, 1, 3]), prompt_logprobs=True
            )
        )
    return requests


@pytest.mark.parametrize("base", BASES)
def test_a_sample_never_sees_its_neighbours(base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine()
    trained(engine, base=base)
    snapshot = engine.apply(SaveSampler("m"))
    requests = sample_requests(base, 24, 3)
    alone = [engine.sample(base, snapshot, request) for request in requests]
    for slots in (1, 2, 5, 16, 40):
        monkeypatch.setattr(sampling, "SLOTS", slots)
        assert engine.sample_many(base, snapshot, requests) == alone
    backwards = engine.sample_many(base, snapshot, requests[::-1])
    assert backwards[::-1] == alone


def blas_threads() -> set[int]:
    return {library["num_threads"] for library in threadpoolctl.threadpool_info() if library["user_api"] == "blas"}


def test_blas_threads_are_held_and_given_back() -> None:
    with fixed_blas_threads():
        pass
    with threadpoolctl.threadpool_limits(2, user_api="blas"):
        assert blas_threads() == {2}
        with fixed_blas_threads():
            assert blas_threads() == {1}
            entered, leave = threading.Event(), threading.Event()

            def other() -> None:
                with fixed_blas_threads():
                    entered.set()
                    leave.wait(10)

            thread = threading.Thread(target=other)
            thread.start()
            assert entered.wait(10)
        assert blas_threads() == {1}, "another thread still computes"
        leave.set()
        thread.join(10)
        assert blas_threads() == {2}


def test_any_thread_can_hold_blas() -> None:
    """threadpoolctl lets one thread set the number and ignores others silently; the engine runs in worker threads."""
    seen: list[set[int]] = []

    def other() -> None:
        with fixed_blas_threads():
            seen.append(blas_threads())
        seen.append(blas_threads())

    thread = threading.Thread(target=other)
    with threadpoolctl.threadpool_limits(2, user_api="blas"):
        thread.start()
        thread.join(10)
    assert seen == [{1}, {2}]


def test_thread_count_of_the_caller_changes_no_bit() -> None:
    data = data_for(BASE_S, 6)
    with threadpoolctl.threadpool_limits(1, user_api="blas"):
        one = digest_after(BASE_S, [data])
    with threadpoolctl.threadpool_limits(2, user_api="blas"):
        assert digest_after(BASE_S, [data]) == one


def test_seeds_fix_the_start_of_an_adapter() -> None:
    engine = Engine()
    for model_id, seed in (("a", 1), ("b", 1), ("c", 2), ("d", None), ("e", None)):
        engine.apply(CreateModel(model_id, TINY, LoraConfig(rank=4, seed=seed)))
    digests = {model_id: engine.digest(model_id) for model_id in "abcde"}
    assert digests["a"] == digests["b"]
    assert len(set(digests.values())) == 4, "without a seed the model's id gives the start"
    again = Engine()
    again.apply(CreateModel("d", TINY, LoraConfig(rank=4)))
    assert again.digest("d") == digests["d"]


def test_start_is_uniform_and_b_is_zero() -> None:
    engine = Engine()
    engine.apply(CreateModel("m", BASE_S, LoraConfig(rank=16, seed=3)))
    weights = engine.apply(SaveSampler("m")).weights
    for name, array in weights.items():
        if name.endswith("lora_B"):
            assert not array.any(), name
        else:
            bound = array.shape[1] ** -0.5
            assert np.abs(array).max() < bound
            assert np.abs(array).max() > 0.95 * bound
            assert array.std() == pytest.approx(bound / 3**0.5, rel=0.1)


def bits(response: SampleResponse) -> list[bytes]:
    """Everything in a response that is a number, to the bit."""
    found = [np.array(response.prompt_logprobs, np.float64).tobytes()]
    for sequence in response.sequences:
        assert sequence.logprobs is not None
        found += [sequence.tokens.tobytes(), sequence.logprobs.tobytes()]
    return found


@pytest.mark.parametrize("base", BASES)
def test_a_sample_is_the_same_alone_and_in_every_slot(base: str) -> None:
    engine = Engine()
    trained(engine, base=base)
    snapshot = engine.apply(SaveSampler("m"))
    rng, vocabulary = random.Random(0), vocabulary_of(base)

    def one(seed: int, length: int, max_tokens: int) -> SampleRequest:
        prompt = ModelInput.from_ints([rng.randrange(vocabulary) for _ in range(length)])
        params = SamplingParams(max_tokens=max_tokens, seed=seed, temperature=1.0, stop=[])
        return SampleRequest(prompt=prompt, sampling_params=params, num_samples=1, prompt_logprobs=True)

    mine = one(7, 9, 6)
    # neighbours that end at every step, so that it changes its slot, and more of them, so that slots are filled again
    ending = [one(100 + n, rng.randint(1, 30), rng.randint(1, 6)) for n in range(sampling.SLOTS + 4)]
    lasting = [one(200 + n, rng.randint(1, 30), 6) for n in range(sampling.SLOTS + 4)]
    alone = bits(engine.sample(base, snapshot, mine))
    company = [
        (others, [bits(engine.sample(base, snapshot, other)) for other in others]) for others in (ending, lasting)
    ]
    for slot in range(sampling.SLOTS):
        others, others_alone = company[slot % 2]
        responses = engine.sample_many(base, snapshot, [*others[:slot], mine, *others[slot:]])
        assert bits(responses[slot]) == alone
        assert [bits(response) for response in responses[:slot] + responses[slot + 1 :]] == others_alone
