"""Tokenizers by model name."""

from tinker_actors.tokenizers.tokenizer import Tokenizer, tokenizer_for

__all__ = ["Tokenizer", "tokenizer_for"]
