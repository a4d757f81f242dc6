"""What a job keeps of the program besides the weights: generators, the place in the data, objects of the user's."""

from __future__ import annotations

import json
import logging
import random
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar, cast, final, runtime_checkable

import numpy as np

from tinker_actors.checks import text
from tinker_actors.errors import InvalidInput, JobError

__all__ = ["Tracked", "as_json", "load_generator", "state_of_generator"]

T = TypeVar("T")

_log = logging.getLogger("tinker_actors.jobs")

_CURE = (
    "Give a random.Random, a numpy Generator, or an object with get_state() and set_state(state), or state_dict() "
    "and load_state_dict(state), whose state JSON can hold"
)


@runtime_checkable
class _Stateful(Protocol):
    def get_state(self) -> Any: ...

    def set_state(self, state: Any, /) -> object: ...


@runtime_checkable
class _StateDict(Protocol):
    def state_dict(self) -> Any: ...

    def load_state_dict(self, state: Any, /) -> object: ...


@final
class Tracked:
    """By name: what tells a state, and what takes one back. ``found`` are the states of an earlier process."""

    def __init__(self, found: dict[str, Any]) -> None:
        self._found = dict(found)
        self._get: dict[str, Callable[[], Any]] = {}

    def add(self, name: str, target: T) -> T:
        """Track ``target``, and give it the state that it had. Raises InvalidInput, JobError when it refuses that."""
        text("name", name, "Name what is tracked")
        if name in self._get:
            raise InvalidInput("name", f"{name!r} is tracked already", "Give each object a name of its own")
        get, set_ = _ways(name, target)
        self._state(name, get)
        if name in self._found:
            try:
                set_(self._found.pop(name))
            except Exception as error:
                raise JobError(
                    f"what is tracked as {name!r} does not take back the state that it had: {error}. Let it be the "
                    "same as in the earlier process"
                ) from error
        self._get[name] = get
        return target

    def states(self) -> str:
        """All of them now, as JSON. Raises JobError for one that can't be told."""
        states = [f"{json.dumps(name)}: {self._state(name, get)}" for name, get in self._get.items()]
        states += [f"{json.dumps(name)}: {json.dumps(state)}" for name, state in self._found.items()]
        return f"{{{', '.join(states)}}}"

    def forgotten(self) -> tuple[str, ...]:
        """The names of states of the earlier process that nothing has taken back."""
        return tuple(self._found)

    def _state(self, name: str, get: Callable[[], Any]) -> str:
        try:
            return as_json(get())
        except Exception as error:
            raise JobError(f"the state of what is tracked as {name!r} can't be kept: {error}. {_CURE}") from error


def as_json(state: Any) -> str:
    """``state`` as JSON that gives the same again, with lists for tuples. Raises TypeError, ValueError or
    RecursionError where none does.
    """
    written = json.dumps(state)
    _require_texts_as_keys(state)
    return written


def _require_texts_as_keys(state: Any) -> None:
    if isinstance(state, dict):
        for key, value in cast("dict[Any, Any]", state).items():
            if not isinstance(key, str):
                raise TypeError(f"its key {key!r} is no text, and would come back as one")
            _require_texts_as_keys(value)
    elif isinstance(state, list | tuple):
        for value in cast("Sequence[Any]", state):
            if isinstance(value, dict | list | tuple):
                _require_texts_as_keys(value)


def state_of_generator(generator: random.Random) -> Any:
    """As JSON can hold it."""
    version, numbers, gauss = generator.getstate()
    return [version, list(numbers), gauss]


def load_generator(generator: random.Random, state: Any) -> None:
    """What ``state_of_generator`` told. Raises ValueError or TypeError for anything else."""
    version, numbers, gauss = state
    generator.setstate((version, tuple(numbers), gauss))


def _ways(name: str, target: object) -> tuple[Callable[[], Any], Callable[[Any], object]]:
    if isinstance(target, random.Random):
        return lambda: state_of_generator(target), lambda state: load_generator(target, state)
    if isinstance(target, np.random.Generator):
        bits = cast("Any", target.bit_generator)
        return lambda: _plain(bits.state), lambda state: setattr(bits, "state", _restored(state))
    if isinstance(target, _Stateful):
        return target.get_state, target.set_state
    if isinstance(target, _StateDict):
        return target.state_dict, target.load_state_dict
    raise InvalidInput(f"track({name!r})", f"is of type {type(target).__name__}, whose state is not known", _CURE)


def _plain(state: Any) -> Any:
    if isinstance(state, dict):
        return {key: _plain(value) for key, value in cast("dict[str, Any]", state).items()}
    if isinstance(state, np.ndarray):
        array = cast("np.ndarray[Any, np.dtype[Any]]", state)
        return {"dtype": str(array.dtype), "values": array.tolist()}
    return cast("Any", state.item() if isinstance(state, np.generic) else state)


def _restored(state: Any) -> Any:
    if isinstance(state, dict):
        fields = cast("dict[str, Any]", state)
        if set(fields) == {"dtype", "values"}:
            return np.array(fields["values"], dtype=fields["dtype"])
        return {key: _restored(value) for key, value in fields.items()}
    return state
