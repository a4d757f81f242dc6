"""Folders with a tokenizer, as the hub has them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import decoders, models, pre_tokenizers


def make_folder(folder: Path, size: int, *, shift: int = 0, **special: Any) -> Path:
    """A byte-level tokenizer of ``size`` tokens, the largest id at ``size - 1 + shift``; ``special`` names some."""
    folder.mkdir(parents=True, exist_ok=True)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = ["<pad>", "<bos>", "<eos>", *alphabet[: size - 3]]
    tokens += [f"w{number}" for number in range(size - len(tokens))]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    vocabulary[tokens[-1]] += shift
    inner = tokenizers.Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    inner.decoder = decoders.ByteLevel()
    inner.add_special_tokens(["<pad>", "<bos>", "<eos>"])
    inner.save(str(folder / "tokenizer.json"))
    if special:
        (folder / "tokenizer_config.json").write_text(json.dumps(special))
    return folder
