"""Generated text for pretraining: short string tasks, small sums and template sentences.

Every example is one line, `task: word -> answer`, ended by a newline. The tasks transform a word letter by
letter. None of them is Pig Latin, depends on whether a word starts with a vowel and then moves letters, or
appends or prepends "ay", "way", "yay" or "hay"; so the base model knows the ingredients, not the dish.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

__all__ = ["TASKS", "Example", "make_example", "make_task_example", "random_word"]

LETTERS = "abcdefghijklmnopqrstuvwxyz"
VOWELS = "aeiou"
NEVER_APPENDED = frozenset({"ay", "way", "yay", "hay"})


@dataclass(frozen=True)
class Example:
    """A prompt and the answer that follows it (newline included)."""

    prompt: str
    answer: str


Task = Callable[[str, random.Random], tuple[str, str]]
"""Takes a word; returns the task's name with its arguments, and the answer."""


def random_word(rng: random.Random) -> str:
    """Return three to ten random letters."""
    return "".join(rng.choices(LETTERS, k=rng.randint(3, 10)))


def _affix(rng: random.Random) -> str:
    while True:
        affix = "".join(rng.choices(LETTERS, k=rng.randint(1, 3)))
        if affix not in NEVER_APPENDED:
            return affix


def _number(word: str, rng: random.Random) -> int:
    return rng.randint(1, min(4, len(word) - 1))


def _letter_of(word: str, rng: random.Random) -> str:
    return rng.choice(word)


def _fixed(name: str, transform: Callable[[str], str]) -> Task:
    return lambda word, _rng: (name, transform(word))


def _numbered(name: str, transform: Callable[[str, int], str]) -> Task:
    def task(word: str, rng: random.Random) -> tuple[str, str]:
        number = _number(word, rng)
        return f"{name} {number}", transform(word, number)

    return task


def _lettered(name: str, transform: Callable[[str, str], str]) -> Task:
    def task(word: str, rng: random.Random) -> tuple[str, str]:
        letter = _letter_of(word, rng)
        return f"{name} {letter}", transform(word, letter)

    return task


def _replace(word: str, rng: random.Random) -> tuple[str, str]:
    old, new = _letter_of(word, rng), rng.choice(LETTERS)
    return f"replace {old} {new}", word.replace(old, new)


def _letter(word: str, rng: random.Random) -> tuple[str, str]:
    number = rng.randint(1, len(word))
    return f"letter {number}", word[number - 1]


def _append(word: str, rng: random.Random) -> tuple[str, str]:
    affix = _affix(rng)
    return f"append {affix}", word + affix


def _prepend(word: str, rng: random.Random) -> tuple[str, str]:
    affix = _affix(rng)
    return f"prepend {affix}", affix + word


def _only(letters: str, word: str) -> str:
    return "".join(letter for letter in word if letter in letters) or "none"


CONSONANTS = "".join(letter for letter in LETTERS if letter not in VOWELS)

TASKS: tuple[Task, ...] = (
    _fixed("copy", lambda word: word),
    _fixed("upper", str.upper),
    _fixed("capital", str.capitalize),
    _fixed("reverse", lambda word: word[::-1]),
    _fixed("spell", " ".join),
    _fixed("dash", "-".join),
    _fixed("first", lambda word: word[0]),
    _fixed("last", lambda word: word[-1]),
    _fixed("vowels", lambda word: _only(VOWELS, word)),
    _fixed("consonants", lambda word: _only(CONSONANTS, word)),
    _fixed("plural", lambda word: word + "s"),
    _fixed("sort", lambda word: "".join(sorted(word))),
    _fixed("length", lambda word: str(len(word))),
    _fixed("repeat", lambda word: f"{word} {word}"),
    _fixed("starts with vowel", lambda word: "yes" if word[0] in VOWELS else "no"),
    _replace,
    _fixed("last to front", lambda word: word[-1] + word[:-1]),
    _fixed("first to end", lambda word: word[1:] + word[0]),
    _fixed("drop last", lambda word: word[:-1]),
    _fixed("swap ends", lambda word: word[-1] + word[1:-1] + word[0]),
    _fixed("double first", lambda word: word[0] + word),
    _fixed("double vowels", lambda word: "".join(c * 2 if c in VOWELS else c for c in word)),
    _letter,
    _append,
    _prepend,
    _numbered("rotate", lambda word, n: word[n:] + word[:n]),
    _numbered("drop", lambda word, n: word[n:]),
    _numbered("take", lambda word, n: word[:n]),
    _numbered("move", lambda word, n: word[-n:] + word[:-n]),
    _lettered("after", lambda word, c: word[word.index(c) + 1 :] or "none"),
    _lettered("before", lambda word, c: word[: word.index(c)] or "none"),
    _lettered("from", lambda word, c: word[word.index(c) :]),
)

SUBJECTS = ("the cat", "a dog", "the old man", "my friend", "the child", "a bird", "the teacher", "our neighbor")
VERBS = ("sees", "likes", "finds", "wants", "brings", "draws", "hides", "remembers")
OBJECTS = (
    "the ball",
    "a red apple",
    "the house",
    "some bread",
    "a small boat",
    "the river",
    "a letter",
    "the sun",
)
PLACES = ("in the garden", "at night", "near the sea", "on the hill", "every day", "after lunch")


def make_task_example(task: Task, word: str, rng: random.Random) -> Example:
    """Apply one task to one word."""
    name, answer = task(word, rng)
    return Example(f"{name}: {word} -> ", answer + "\n")


def make_example(words: Sequence[str], rng: random.Random) -> Example:
    """Draw one example: 3 % sums, 3 % sentences, else a uniformly chosen task.

    The word of a task is a packaged training word three times in four, else random letters, which keep the
    model from leaning on which words exist.
    """
    kind = rng.random()
    if kind < 0.03:
        left, right = rng.randint(0, 20), rng.randint(0, 20)
        if rng.random() < 0.5:
            return Example(f"{left} + {right} = ", f"{left + right}\n")
        left, right = max(left, right), min(left, right)
        return Example(f"{left} - {right} = ", f"{left - right}\n")
    if kind < 0.06:
        sentence = " ".join(rng.choice(part) for part in (SUBJECTS, VERBS, OBJECTS, PLACES))
        return Example("", f"{sentence}.\n")
    word = rng.choice(words) if rng.random() < 0.75 else random_word(rng)
    return make_task_example(rng.choice(TASKS), word, rng)
