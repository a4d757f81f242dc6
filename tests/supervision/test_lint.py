"""Traps of our own that a linter does not know: the code of supervision is read for them.

Each exception to a rule stands here, with its reason; one that is not needed any more is a failure, too.
"""

from __future__ import annotations

import ast
import importlib
import pkgutil
import types
import typing
from collections.abc import Iterator
from pathlib import Path

import msgspec

import supervision

ROOT = Path(supervision.__file__).parent

SORTED: dict[str, str] = {
    "callbacks.py:call_back": "SystemExit of a hook: ends the system, which raises it",
    "events.py:Events.emit": "SystemExit of a listener: ends the system, which raises it",
    "end.py:run_terminate": "fatal ones end the system (note), all others are reported as a crash of terminate()",
    "incarnation.py:Incarnation.run": "what ended the life: end_life() sorts it; if that fails, the system ends",
    "incarnation.py:Incarnation._escaped": "what is left of it outside of the actor's scope, for the same",
    "tasks.py:ActorTask.run": "what ended an actor's task: task_ended() sorts it as the actor's own",
    "supervised_task.py:OneShot.run": "what ended a supervised task: its result, and its actor's end",
    "system.py:System.shut_down": "Cancelled and ^C: raised when all have ended",
    "system.py:open_system": "of the block, or Cancelled meanwhile: raised when all have ended",
    "testing/sweep.py:_main": "what the scenario raised: given to its check(); Cancelled is raised",
    "testing/sweep.py:_Sweep.run": "an interrupt of the sweep's own that came late: given to check()",
}
"""Who catches BaseException and does not always raise it again, and what becomes of it."""

CLOCKS_AND_CHANCE: dict[str, set[str]] = {
    "loop_watch.py": {"time.perf_counter", "time.thread_time"},  # within one step; injected in tests
    # the type of the generator that is injected, and, in context.py, one of each incarnation's own, seeded from it
    "backoff.py": {"random.Random"},
    "context.py": {"random.Random"},
    "incarnation.py": {"random.Random"},
    "system.py": {"random.Random"},
    "testing/scripted.py": {"random.Random"},  # for a system without jitter
    "testing/seeded.py": {"random.Random"},
}
"""Which names of `time`, `random` and `datetime` a room may use."""

CLASS_STATE: dict[str, str] = {
    "supervision.actor.Actor.__handlers__": "made with the class, and never changed",
    "supervision.actor.Actor.context": "raises until a system has started the actor; it holds nothing",
    "supervision.state_machine.StateMachine.__handlers__": "made with the class, and never changed",
    "supervision.supervised_task.OneShot.__handlers__": "made with the class, and never changed",
    "supervision.testing.scripted.Scripted.__handlers__": "made with the class, and never changed",
}
"""Mutable attributes of classes, and why they may be."""


def rooms() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(ROOT.rglob("*.py")):
        yield str(path.relative_to(ROOT)), ast.parse(path.read_text("utf-8"))


def functions(tree: ast.AST, prefix: str = "") -> Iterator[tuple[str, ast.AST]]:
    """Every function and method with its qualified name, and the module itself."""
    yield prefix, tree
    for node in ast.iter_child_nodes(tree):
        yield from _functions_below(node, prefix)


def _functions_below(node: ast.AST, prefix: str) -> Iterator[tuple[str, ast.AST]]:
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        name = f"{prefix}.{node.name}" if prefix else node.name
        if not isinstance(node, ast.ClassDef):
            yield name, node
        for child in ast.iter_child_nodes(node):
            yield from _functions_below(child, name)
    else:
        for child in ast.iter_child_nodes(node):
            yield from _functions_below(child, prefix)


def own_nodes(function: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a function, without those of functions and classes inside it."""
    pending = list(ast.iter_child_nodes(function))
    while pending:
        node = pending.pop()
        yield node
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)):
            pending.extend(ast.iter_child_nodes(node))


# ---- the rules, each for one function


def swallows_everything(function: ast.AST) -> bool:
    """Whether it catches BaseException (or anything) in a handler that does not end by raising it again."""
    for node in own_nodes(function):
        if isinstance(node, ast.ExceptHandler) and _catches_all(node.type):
            last = node.body[-1]
            if not (isinstance(last, ast.Raise) and last.exc is None):
                return True
    return False


def _catches_all(caught: ast.expr | None) -> bool:
    if caught is None:
        return True
    members = caught.elts if isinstance(caught, ast.Tuple) else [caught]
    names = {member.attr if isinstance(member, ast.Attribute) else getattr(member, "id", "") for member in members}
    return bool(names & {"BaseException", "BaseExceptionGroup", "Cancelled", "KeyboardInterrupt", "SystemExit"})


def awaits_in_finally(function: ast.AST) -> bool:
    """Whether it awaits in a `finally` outside a shield: under a cancellation that await raises at once."""
    return any(
        _awaits_unshielded(statement)
        for node in own_nodes(function)
        if isinstance(node, (ast.Try, ast.TryStar))
        for statement in node.finalbody
    )


def _awaits_unshielded(node: ast.AST) -> bool:
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
        return False
    if isinstance(node, (ast.Await, ast.AsyncFor, ast.AsyncWith)):
        return True
    if isinstance(node, ast.With) and any(_is_shield(item.context_expr) for item in node.items):
        return False
    return any(_awaits_unshielded(child) for child in ast.iter_child_nodes(node))


def _is_shield(made: ast.expr) -> bool:
    return isinstance(made, ast.Call) and any(
        keyword.arg == "shield" and isinstance(keyword.value, ast.Constant) and keyword.value.value is True
        for keyword in made.keywords
    )


def clocks_and_chance(tree: ast.Module) -> set[str]:
    """What a room uses of the modules that make runs differ, under whatever name."""
    watched = {"time", "random", "datetime", "secrets", "uuid"}
    aliases: dict[str, str] = {}
    used: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name in watched:
                    aliases[alias.asname or alias.name] = alias.name
        elif isinstance(node, ast.ImportFrom) and node.module in watched:
            used |= {f"{node.module}.{alias.name}" for alias in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in aliases:
            used.add(f"{aliases[node.value.id]}.{node.attr}")
        elif isinstance(node, ast.Call) and not node.args and ast.unparse(node.func).endswith(".Random"):
            used.add("random.Random without a seed")
    return used


def mutable(value: object) -> bool:
    """Whether a value that a module or class keeps can change."""
    if isinstance(value, (tuple, frozenset)):
        return any(mutable(member) for member in value)
    if isinstance(value, msgspec.Struct):
        return not type(value).__struct_config__.frozen
    # Types, functions and what typing makes of them are as fixed as the code is.
    fixed = (
        str,
        bytes,
        int,
        float,
        type,
        types.FunctionType,
        types.BuiltinFunctionType,
        types.ModuleType,
        types.UnionType,
        types.GenericAlias,
        types.MemberDescriptorType,
        types.GetSetDescriptorType,
        property,
        staticmethod,
        classmethod,
        typing.TypeVar,
        typing.TypeVarTuple,
        typing.ParamSpec,
    )
    if value is None or isinstance(value, fixed):
        return False
    return type(value).__module__ not in {"typing", "__future__"}


# ---- applied to all of it


def test_nobody_swallows_what_must_pass() -> None:
    found = {
        f"{room}:{name}"
        for room, tree in rooms()
        for name, function in functions(tree)
        if swallows_everything(function)
    }
    assert found == set(SORTED)
    assert all(SORTED.values())


def test_nobody_awaits_in_finally_outside_a_shield() -> None:
    found = {
        f"{room}:{name}"
        for room, tree in rooms()
        for name, function in functions(tree)
        if awaits_in_finally(function)
    }
    assert found == set()


def test_clocks_and_chance_come_from_outside() -> None:
    found = {room: used for room, tree in rooms() if (used := clocks_and_chance(tree))}
    assert found == CLOCKS_AND_CHANCE


def modules() -> Iterator[types.ModuleType]:
    for found in pkgutil.walk_packages(supervision.__path__, "supervision."):
        yield importlib.import_module(found.name)


def test_no_module_keeps_state() -> None:
    found = {
        f"{module.__name__}.{name}"
        for module in (supervision, *modules())
        for name, value in vars(module).items()
        if not name.startswith("__") and mutable(value)
    }
    assert found == set()
    rebinding = {room for room, tree in rooms() for node in ast.walk(tree) if isinstance(node, ast.Global)}
    assert rebinding == set()


def test_no_class_keeps_state() -> None:
    found = {
        f"{module.__name__}.{kind.__qualname__}.{name}"
        for module in modules()
        for kind in vars(module).values()
        if isinstance(kind, type) and kind.__module__ == module.__name__
        for name, value in vars(kind).items()
        if (not name.startswith("__") or name == "__handlers__")
        and not name.startswith(("_abc_", "_is_"))
        and mutable(value)
    }
    assert found == set(CLASS_STATE)


# ---- and to code that breaks them: a rule that finds nothing proves nothing


def one(source: str) -> ast.AST:
    return ast.parse(source).body[0]


def test_the_rules_find_what_they_are_for() -> None:
    tries = "async def f():\n try:\n  await g()\n "
    assert swallows_everything(one(tries + "except BaseException:\n  pass"))
    assert swallows_everything(one(tries + "except:\n  pass"))
    assert swallows_everything(one(tries + "except (ValueError, trio.Cancelled):\n  log()"))
    assert swallows_everything(one(tries + "except BaseException as error:\n  if a:\n   raise\n  caught = error"))
    assert swallows_everything(one(tries + "except BaseException as error:\n  raise ValueError from error"))
    assert not swallows_everything(one(tries + "except BaseException:\n  undo()\n  raise"))
    assert not swallows_everything(one(tries + "except Exception:\n  pass"))
    inner = "def f():\n async def g():\n  try:\n   pass\n  except BaseException:\n   pass"
    assert [name for name, function in functions(ast.parse(inner)) if swallows_everything(function)] == ["f.g"]

    assert awaits_in_finally(one(tries + "finally:\n  await h()"))
    assert awaits_in_finally(one(tries + "finally:\n  if a:\n   async with h(): pass"))
    assert awaits_in_finally(one(tries + "finally:\n  with trio.CancelScope():\n   await h()"))
    assert awaits_in_finally(one(tries + "finally:\n  with trio.CancelScope(shield=False):\n   await h()"))
    assert not awaits_in_finally(one(tries + "finally:\n  with trio.CancelScope(shield=True):\n   await h()"))
    assert not awaits_in_finally(one(tries + "finally:\n  h()"))

    assert clocks_and_chance(ast.parse("import time\ntime.monotonic()")) == {"time.monotonic"}
    assert clocks_and_chance(ast.parse("import random as r\nr.random()")) == {"random.random"}
    unseeded = "import random\na = random.Random()\nb = random.Random(1)"
    assert clocks_and_chance(ast.parse(unseeded)) == {"random.Random", "random.Random without a seed"}
    assert clocks_and_chance(ast.parse("from time import sleep")) == {"time.sleep"}
    assert clocks_and_chance(ast.parse("def f(random): return random.random()")) == set()

    for value in ([], {}, set(), ([],), {1: 2}.keys(), object(), typing.cast("object", bytearray())):
        assert mutable(value), value
    for value in (1, "a", (1, ("b",)), frozenset({1}), int, len, None, supervision.Backoff(), list[int], typing.Any):
        assert not mutable(value), value
