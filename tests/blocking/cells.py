"""Cells of a notebook, run as IPython runs them."""

from __future__ import annotations

import ast
import asyncio
import inspect
import textwrap
import types
from typing import Any

__all__ = ["Notebook"]


class Notebook:
    """Runs cells as IPython does: within a running loop, a cell that awaits as a coroutine, any other at once."""

    def __init__(self, **names: Any) -> None:
        self.names = names

    def run(self, *cells: str) -> None:
        """All of them, one after the other, on one loop."""
        asyncio.run(self._run(cells))

    async def _run(self, cells: tuple[str, ...]) -> None:
        for cell in cells:
            code = compile(textwrap.dedent(cell), "cell", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            made = types.FunctionType(code, self.names)()
            if inspect.iscoroutine(made):
                await made
            await asyncio.sleep(0)
