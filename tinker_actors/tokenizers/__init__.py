"""Tokenizers by model name."""

from tinker_actors.tokenizers.hub import hub_token
from tinker_actors.tokenizers.served import served_name
from tinker_actors.tokenizers.tokenizer import Tokenizer, named_tokenizer, tokenizer_for

__all__ = ["hub_token", "named_tokenizer", "served_name", "Tokenizer", "tokenizer_for"]
