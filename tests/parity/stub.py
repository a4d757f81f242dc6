"""A pytest plugin: the symbol named by PARITY_STUB, module:symbol, raises when it is used.

It is put in place by an import hook, right after its module has run and before anything can import it from there.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import os
import sys
from collections.abc import Sequence
from types import FunctionType, ModuleType
from typing import Any, NoReturn

__all__: list[str] = []

NAME = os.environ.get("PARITY_STUB", "")


class Stubbed(BaseException):  # nothing that recovers from errors may make up for what is missing
    """The symbol was used."""


def _raise() -> NoReturn:
    sys.stderr.write(f"Stubbed: {NAME}\n")
    raise Stubbed(f"Stubbed: {NAME}")


class _Kind(type):
    """A class that can be annotated with, subclassed and asked about, and not be used."""

    def __call__(cls, *args: Any, **options: Any) -> NoReturn:
        _raise()

    def __getattr__(cls, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        _raise()

    def __instancecheck__(cls, instance: object) -> bool:
        return False


class _Value:
    """A constant or an alias of a type that can't be used for anything."""

    def __getattr__(self, name: str) -> NoReturn:
        if name in ("__wrapped__", "__set_name__"):
            raise AttributeError(name)
        _raise()

    def _used(self, *args: Any, **options: Any) -> NoReturn:
        _raise()

    __call__ = __iter__ = __len__ = __bool__ = __getitem__ = __contains__ = _used
    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = __hash__ = _used  # pyright: ignore[reportAssignmentType]
    __or__ = __ror__ = __add__ = __radd__ = __sub__ = __mul__ = __rmul__ = __truediv__ = _used
    __str__ = __repr__ = __format__ = __int__ = __float__ = __index__ = _used  # pyright: ignore[reportAssignmentType]


def _stub(original: object) -> object:
    if isinstance(original, type):
        return _Kind(
            original.__name__, (), {"__module__": original.__module__, "__qualname__": original.__qualname__}
        )

    def function(*args: Any, **options: Any) -> NoReturn:
        _raise()

    if isinstance(original, property):
        return property(function)
    return function if isinstance(original, FunctionType | staticmethod | classmethod) else _Value()


def _install(module: ModuleType, path: Sequence[str]) -> None:
    owner: Any = module
    for part in path[:-1]:
        owner = getattr(owner, part)
    raw = vars(owner)[path[-1]]
    new = _stub(raw)
    if isinstance(raw, staticmethod | classmethod):
        new = staticmethod(_stub(_raise))  # pyright: ignore[reportArgumentType]
    setattr(owner, path[-1], new)


class _Loader(importlib.abc.Loader):
    def __init__(self, real: importlib.abc.Loader, path: Sequence[str]) -> None:
        self._real = real
        self._path = path

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self._real.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._real.exec_module(module)
        _install(module, self._path)


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self, module: str, path: Sequence[str]) -> None:
        self._module = module
        self._path = path

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != self._module:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader, self._path)
        return spec


if NAME:
    _module, _, _symbol = NAME.partition(":")
    if _module in sys.modules:
        raise RuntimeError(f"{_module} was imported before it could be stubbed")
    sys.meta_path.insert(0, _Finder(_module, _symbol.split(".")))
