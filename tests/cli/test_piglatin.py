"""The task: the rule, the split, and what the model is given."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tests.cli.byte_tokens import Bytes
from tinker_actors.cli.piglatin import is_held_out, load_words, pig_latin
from tinker_actors.cli.task import BATCH, Task, held_out_words, learning_rate, training_batches


@pytest.mark.parametrize(
    ("word", "answer"),
    [
        ("apple", "appleway"),
        ("string", "ingstray"),
        ("queen", "eenquay"),
        ("square", "aresquay"),
        ("yellow", "ellowyay"),
        ("my", "ymay"),
        ("rhythm", "ythmrhay"),
        ("byte", "ytebay"),
        ("tsk", "tskay"),
        ("quit", "itquay"),
        ("a", "away"),
    ],
)
def test_the_rule(word: str, answer: str) -> None:
    assert pig_latin(word) == answer


@pytest.mark.parametrize("word", ["", "Apple", "two words", "naïve", "it's"])
def test_what_is_no_word_is_refused(word: str) -> None:
    with pytest.raises(ValueError, match="one lowercase word"):
        pig_latin(word)


def test_the_split_keeps_the_parts_apart() -> None:
    words = load_words()
    assert not set(words.train) & set(words.held_out)
    assert 0.08 < len(words.held_out) / (len(words.train) + len(words.held_out)) < 0.12
    assert all(map(is_held_out, words.held_out))
    assert not any(map(is_held_out, words.train))
    assert all(3 <= len(word) <= 10 and word.isascii() and word.islower() for word in words.train + words.held_out)


def test_batches_come_from_the_training_words_and_the_seed() -> None:
    words = load_words()
    batches = training_batches(words, steps=5, seed=3)
    assert batches == training_batches(words, steps=5, seed=3)
    assert batches != training_batches(words, steps=5, seed=4)
    assert batches == training_batches(words, steps=9, seed=3)[:5]
    assert all(len(set(batch)) == BATCH and not any(map(is_held_out, batch)) for batch in batches)
    asked = held_out_words(words, 200)
    assert len(set(asked)) == 200
    assert all(map(is_held_out, asked))


def test_loss_counts_on_the_answers_alone_and_weighs_one_in_all() -> None:
    task = Task(Bytes())
    data = task.batch(["apple", "string"])
    assert math.isclose(sum(float(datum.tensor("weights").to_numpy().sum()) for datum in data), 1.0, rel_tol=1e-6)
    for datum, word in zip(data, ["apple", "string"], strict=True):
        weights = datum.tensor("weights").to_numpy()
        targets = datum.tensor("target_tokens").to_numpy()
        assert task.reply(targets[weights > 0].tolist()) == pig_latin(word)
        assert Bytes().decode(targets[weights > 0].tolist()).endswith("\n")
        inputs = datum.model_input.to_array()
        assert np.array_equal(inputs[1:], targets[:-1])
        assert inputs[0] == 1
        assert task.question(word).to_ints() == inputs[: int((weights == 0).sum()) + 1].tolist()


def test_a_reply_ends_at_the_newline() -> None:
    task = Task(Bytes())
    assert task.reply(Bytes().encode("ingstray\npig")) == "ingstray"
    assert task.reply(Bytes().encode("ingstray")) == "ingstray"
    assert task.reply([]) == ""


@pytest.mark.parametrize("steps", [1, 2, 3, 10, 30, 150])
def test_the_rate_warms_up_and_ends_just_above_zero(steps: int) -> None:
    rates = [learning_rate(step, steps) for step in range(1, steps + 1)]
    peak = rates.index(max(rates))
    assert all(rate > 0 for rate in rates)
    assert max(rates) == pytest.approx(3e-3)
    assert rates[: peak + 1] == sorted(rates[: peak + 1])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    if steps == 150:
        assert rates[0] == pytest.approx(3e-4)
        assert rates[9] == pytest.approx(3e-3)
        assert rates[-1] == pytest.approx(3e-3 / 140)
