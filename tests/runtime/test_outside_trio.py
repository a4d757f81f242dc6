"""What needs trio says so in asyncio, and names what to use there."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from tinker_actors import WrongPlace, local_server, open_runtime


@pytest.mark.parametrize(
    ("opened", "instead"),
    [
        (open_runtime(base_url="http://127.0.0.1:1", api_key="tml-mine"), "blocking_runtime()"),
        (local_server(), "local_server_thread()"),
    ],
)
def test_asyncio_is_told_what_to_use(opened: AbstractAsyncContextManager[Any], instead: str) -> None:
    async def program() -> None:
        async with opened:
            pass

    with pytest.raises(WrongPlace) as refused:
        asyncio.run(program())
    assert f"was used outside of trio, and nothing was done. Use {instead}" in str(refused.value)
