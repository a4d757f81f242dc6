"""SEMANTICS.md names tests that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import supervision

ROOT = Path(__file__).parents[2]


def functions_in(file: str) -> set[str]:
    tree = ast.parse((ROOT / "tests" / file).read_text())
    return {node.name for node in tree.body if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))}


def test_each_guarantee_names_tests_that_exist() -> None:
    text = (Path(supervision.__file__).parent / "SEMANTICS.md").read_text()
    named = re.findall(r"`([\w/]+\.py)::(\w+)`", text)
    assert len(named) > 30
    for file, name in named:
        assert name in functions_in(file), f"SEMANTICS.md names {file}::{name}"
