"""Tokenizers by model name."""

from tinker_actors.tokenizers.hub import hub_token
from tinker_actors.tokenizers.tokenizer import Tokenizer, tokenizer_for

__all__ = ["hub_token", "Tokenizer", "tokenizer_for"]
