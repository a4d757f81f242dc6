"""The demo's task: English words into Pig Latin.

The rule, for lowercase a-z words: the *onset* is the longest prefix without a vowel. Vowels are a, e, i, o
and u; `y` is a consonant as the first letter and a vowel afterwards; a `u` directly after a `q` of the
prefix belongs to the onset. A word with an empty onset gets "way" appended; any other word becomes
rest + onset + "ay". A word without any vowel gets "ay" appended.

    apple -> appleway    string -> ingstray    queen -> eenquay    square -> aresquay
    yellow -> ellowyay   my -> ymay            rhythm -> ythmrhay  tsk -> tskay

The words are the packaged list (SCOWL, by way of Debian's wamerican-small; see data/WORDS-NOTICE.txt).
A word is *held out* if the first byte of its sha256 is below 26 (about a tenth of them): neither the base
model's training nor the demo's fine-tuning ever sees it.
"""

from __future__ import annotations

import gzip
from hashlib import sha256
from importlib.resources import files
from typing import Final

import msgspec

__all__ = ["WordSplit", "answer", "is_held_out", "load_words", "onset_length", "pig_latin", "prompt"]

VOWELS: Final = "aeiou"
HELD_OUT_BELOW: Final = 26


class WordSplit(msgspec.Struct, frozen=True):
    """The packaged words, each part in alphabetical order."""

    train: tuple[str, ...]
    held_out: tuple[str, ...]


def onset_length(word: str) -> int:
    """Return how many leading letters form the onset (the whole word if it has no vowel)."""
    for position, letter in enumerate(word):
        if letter == "u" and position > 0 and word[position - 1] == "q":
            continue
        if letter in VOWELS or (letter == "y" and position > 0):
            return position
    return len(word)


def pig_latin(word: str) -> str:
    """Translate one word.

    Raises:
        ValueError: the word is empty or holds anything but the letters a-z.
    """
    if not (word.isascii() and word.isalpha() and word.islower()):
        raise ValueError(f"pig_latin takes one lowercase word of the letters a-z, not {word!r}")
    cut = onset_length(word)
    return word + "way" if cut == 0 else word[cut:] + word[:cut] + "ay"


def prompt(word: str) -> str:
    """Return the text that asks for a word's translation; the model goes on from here."""
    return f"pig latin: {word} -> "


def answer(word: str) -> str:
    """Return the right continuation of `prompt(word)`, ended by a newline (the stop token)."""
    return pig_latin(word) + "\n"


def is_held_out(word: str) -> bool:
    """Tell whether a word belongs to the held-out part."""
    return sha256(word.encode("ascii")).digest()[0] < HELD_OUT_BELOW


def load_words() -> WordSplit:
    """Read the packaged word list (about 34,000 words, some 30 ms)."""
    data = (files("tinker_actors.cli") / "data" / "words.txt.gz").read_bytes()
    words = gzip.decompress(data).decode("ascii").split()
    return WordSplit(
        train=tuple(word for word in words if not is_held_out(word)),
        held_out=tuple(word for word in words if is_held_out(word)),
    )
