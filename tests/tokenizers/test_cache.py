"""The cache of tokenizers: each is loaded once, and no more than a few are kept."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import trio
import trio.testing

from tinker_actors.errors import CredentialError, InvalidInput
from tinker_actors.ports import ThreadOffload
from tinker_actors.tokenizers import Tokenizer, TokenizerCache, tokenizer_for


class Gate:
    """Loads once it may, and counts."""

    def __init__(self, error: InvalidInput | None = None) -> None:
        self.go = threading.Event()
        self.count = 0
        self.error = error

    def __call__(self) -> Tokenizer:
        self.count += 1
        assert self.go.wait(20)
        if self.error is not None:
            raise self.error
        return tokenizer_for("tinker-actors/tiny")


def loader(counts: dict[str, int], name: str) -> Callable[[], Tokenizer]:
    def load() -> Tokenizer:
        counts[name] = counts.get(name, 0) + 1
        return tokenizer_for("tinker-actors/tiny")

    return load


async def test_concurrent_first_uses_load_once():
    cache, gate = TokenizerCache(ThreadOffload(8)), Gate()
    found: list[Tokenizer] = []

    async def ask() -> None:
        found.append(await cache.get("a", gate))

    async with trio.open_nursery() as nursery:
        for _ in range(50):
            nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        gate.go.set()
    assert gate.count == 1
    assert len(found) == 50
    assert len({id(each) for each in found}) == 1
    assert await cache.get("a", gate) is found[0]
    assert gate.count == 1


async def test_who_waited_hears_why_it_failed_and_the_next_one_tries_anew():
    cache, gate = TokenizerCache(ThreadOffload(8)), Gate(CredentialError("hf_token", "is none", "Mend it"))
    errors: list[InvalidInput] = []

    async def ask() -> None:
        with pytest.raises(CredentialError, match="hf_token: is none") as caught:
            await cache.get("a", gate)
        errors.append(caught.value)

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        gate.go.set()
    assert (gate.count, len(errors)) == (1, 5)
    gate.error = None
    assert (await cache.get("a", gate)).vocab_size
    assert gate.count == 2


async def test_one_who_gives_up_while_loading_leaves_it_to_the_next():
    cache, gate = TokenizerCache(ThreadOffload(8, abandon_on_cancel=True)), Gate()
    found: list[Tokenizer] = []

    async def ask(scope: trio.CancelScope) -> None:
        with scope:
            found.append(await cache.get("a", gate))

    first, second = trio.CancelScope(), trio.CancelScope()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask, first)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(ask, second)
        await trio.testing.wait_all_tasks_blocked()
        first.cancel()
        await trio.testing.wait_all_tasks_blocked()
        gate.go.set()
    assert len(found) == 1
    assert gate.count == 2


async def test_what_was_asked_for_last_is_kept():
    cache, counts = TokenizerCache(ThreadOffload(), size=2), dict[str, int]()
    for name in ("a", "b", "a", "c", "a", "b"):
        await cache.get(name, loader(counts, name))
    assert counts == {"a": 1, "b": 2, "c": 1}
    assert cache.names == ("a", "b")


@pytest.mark.parametrize("size", [0, -1, "8", True])
def test_a_cache_keeps_at_least_one(size: Any):
    with pytest.raises(InvalidInput, match="size"):
        TokenizerCache(ThreadOffload(), size=size)
