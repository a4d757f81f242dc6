"""Tokenizers by model name."""

from tinker_actors.tokenizers.cache import TokenizerCache
from tinker_actors.tokenizers.download import Hub, hub_file
from tinker_actors.tokenizers.hub import hub_token
from tinker_actors.tokenizers.kimi import load_kimi
from tinker_actors.tokenizers.names import tokenizer_name
from tinker_actors.tokenizers.served import served_name, tokenizer_name_of
from tinker_actors.tokenizers.tokenizer import Tokenizer, named_tokenizer, tokenizer_for

__all__ = [
    "Hub",
    "hub_file",
    "hub_token",
    "load_kimi",
    "named_tokenizer",
    "served_name",
    "Tokenizer",
    "tokenizer_for",
    "tokenizer_name",
    "tokenizer_name_of",
    "TokenizerCache",
]
