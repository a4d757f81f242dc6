"""Kimi's tokenizer: a file of ranks, and special tokens behind them."""

from __future__ import annotations

import base64
import json
import pickle
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.tokenizers.stand_in import open_hub
from tinker_actors.errors import InvalidInput
from tinker_actors.tokenizers import Hub, load_kimi, tokenizer_for

BASE = [*(bytes([n]) for n in range(256)), b"he", b"ll", b"hell", b"hello", " 你".encode()]
CONFIG = {
    "added_tokens_decoder": {
        str(len(BASE)): {"content": "[BOS]", "special": True},
        str(len(BASE) + 7): {"content": "<|im_end|>", "special": True},
    }
}


def ranks(tokens: list[bytes]) -> bytes:
    return b"".join(base64.b64encode(token) + b" %d\n" % rank for rank, token in enumerate(tokens))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "tiktoken.model").write_bytes(ranks(BASE))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(CONFIG))
    return tmp_path


def test_without_tiktoken_the_error_says_what_to_install(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "tiktoken", None)
    with pytest.raises(InvalidInput, match=r"Install tinker-actors\[kimi\]"):
        tokenizer_for(str(folder))


def test_it_encodes_and_decodes_from_local_files(folder: Path):
    pytest.importorskip("tiktoken")
    tokenizer = tokenizer_for(str(folder))
    hello = BASE.index(b"hello")
    assert tokenizer.encode("hello") == [hello]
    for text in ("hello world's 1234567, naïve\n\n  DON'T 你好 ok  ", "", "\r\n\t", "🤖é\u0301"):
        assert tokenizer.decode(tokenizer.encode(text)) == text
    first = len(BASE)
    assert tokenizer.vocab_size == first + 256
    assert tokenizer.encode("[BOS]hello<|im_end|>") == [first, hello, first + 7]
    assert tokenizer.encode(f"<|reserved_token_{first + 1}|>") == [first + 1]
    assert tokenizer.decode([first, hello, first + 7]) == "hello"
    assert tokenizer.decode([first, hello], skip_special_tokens=False) == "[BOS]hello"
    assert tokenizer.decode([hello, first + 256, 10**9]) == "hello"  # ids beyond the vocabulary have no text
    assert tokenizer.token_to_id("<|im_end|>") == first + 7
    assert tokenizer.token_to_id("hello") == hello
    assert tokenizer.token_to_id("none") is None
    assert pickle.loads(pickle.dumps(tokenizer)).encode("hello[BOS]") == [hello, first]
    for bad in (["a"], [1.5], [-1], "ab", None):
        with pytest.raises(InvalidInput, match="tokens"):
            tokenizer.decode(bad)  # pyright: ignore[reportArgumentType]


def test_numbers_words_and_han_are_cut_apart(folder: Path):
    pytest.importorskip("tiktoken")
    inner: Any = tokenizer_for(str(folder))._inner
    pattern = inner._inner._pat_str
    regex: Any = pytest.importorskip("regex")
    assert regex.findall(pattern, "I'll 12345 你好world DON'T...\n\n  x") == [
        "I'll",
        " ",
        "123",
        "45",
        " ",
        "你好",
        "world",
        " DON'T",
        "...\n\n",
        " ",
        " x",
    ]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"no rank\n", "line 1"),
        (b"aGk= 0\n!!! 1\n", "line 2"),
        (b"aGk= 0\naGkh x\n", "line 2"),
        (b"aGk= 0\naGkh 2\n", "leaves ranks out"),
        (b"", "leaves ranks out"),
    ],
)
def test_a_file_of_ranks_that_is_none_is_told(content: bytes, words: str, folder: Path):
    pytest.importorskip("tiktoken")
    (folder / "tiktoken.model").write_bytes(content)
    with pytest.raises(InvalidInput, match=words):
        tokenizer_for(str(folder))


def test_files_that_are_missing_or_no_json_are_told(folder: Path):
    pytest.importorskip("tiktoken")
    for content in (b"{", b"[]", b'{"added_tokens_decoder": {"1": 5}}'):
        (folder / "tokenizer_config.json").write_bytes(content)
        with pytest.raises(InvalidInput, match=r"tokenizer_config\.json can't be read"):
            tokenizer_for(str(folder))
    with pytest.raises(InvalidInput, match="can't be read"):
        load_kimi(folder / "none", folder / "tokenizer_config.json")


def test_both_files_come_from_the_hub_at_the_revision_that_is_known_to_be_right(folder: Path, tmp_path: Path):
    pytest.importorskip("tiktoken")
    with open_hub() as hub:
        for file in ("tiktoken.model", "tokenizer_config.json"):
            hub.files[f"moonshotai/Kimi-K2-Thinking/{file}"] = (folder / file).read_bytes()
        tokenizer = tokenizer_for(
            "moonshotai/Kimi-K2-Thinking:tuned", hub=Hub(endpoint=hub.url, cache=tmp_path / "cache")
        )
        assert tokenizer.encode("hello") == [BASE.index(b"hello")]
        assert {revision for _, _, revision, _ in hub.asked} >= {"612681931a8c906ddb349f8ad0f582cb552189cd"}
        assert sorted(hub.downloads) == ["tiktoken.model", "tokenizer_config.json"]
