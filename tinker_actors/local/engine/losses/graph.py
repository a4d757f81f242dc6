"""Graphs of custom losses as they are uploaded: read, checked, and run (WIRE 9.3).

A name in a graph is looked up in the allow list of ``graph_operations`` and never evaluated. Running follows the
nodes in their order; autograd, over numpy, follows what becomes of the log-probabilities.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal, cast, final

import msgspec

from tinker_actors.errors import InvalidInput
from tinker_actors.local.engine.losses.graph_operations import FUNCTIONS, METHODS, size_of

__all__ = ["Graph", "read_graph"]

_MOST_NODES: Final = 2_000
_MOST_ELEMENTS: Final = 1 << 22
_DEEPEST: Final = 8
_LARGEST: Final = 2**53  # integers beyond are no numbers of float64
_LONGEST_SHOWN: Final = 60
_METRIC: Final = re.compile(r"custom/[a-z0-9_./-]{1,64}:(sum|mean)\Z")
_NONFINITE: Final = {"inf": float("inf"), "-inf": float("-inf"), "nan": float("nan")}
_CONSTANTS: Final = ("dtype", "device", "layout", "memory_format")
_FIELD: Final = "graph"
_FAILURES: Final = (ArithmeticError, AttributeError, LookupError, NotImplementedError, TypeError, ValueError)


class _NodeForm(msgspec.Struct):
    op: Literal["placeholder", "get_attr", "call_function", "call_method", "call_module", "output"]
    name: str
    target: str
    args: list[Any] = []
    kwargs: dict[str, Any] = {}


class _GraphForm(msgspec.Struct):
    nodes: list[_NodeForm]
    format: Literal[1] = 1


class _Ref(msgspec.Struct, frozen=True):
    """What an earlier node has come to."""

    name: str


class _Step(msgspec.Struct, frozen=True):
    """One node: a function of the allow list, with its arguments."""

    name: str
    target: str
    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]


@final
class Graph:
    """A checked graph. ``inputs`` are its parameters in order, the log-probabilities first."""

    def __init__(
        self, inputs: tuple[str, ...], steps: Sequence[_Step], loss: _Ref, metrics: Mapping[str, _Ref]
    ) -> None:
        self.inputs = inputs
        self._steps = tuple(steps)
        self._loss = loss
        self._metrics = metrics

    def run(self, values: Sequence[Any]) -> tuple[Any, Mapping[str, Any]]:
        """The loss and the metrics for one value of each input. Raises InvalidInput, naming the node."""
        known: dict[str, Any] = dict(zip(self.inputs, values, strict=True))
        for step in self._steps:
            args = [_filled(arg, known) for arg in step.args]
            kwargs = {key: _filled(arg, known) for key, arg in step.kwargs.items()}
            try:
                value = step.function(*args, **kwargs)
            except _FAILURES as error:
                problem = f"{step.target} can't be done at node {step.name!r}: {str(error)[:200]}"
                raise InvalidInput(_FIELD, problem, "Check shapes and arguments") from error
            if size_of(value) > _MOST_ELEMENTS:
                problem = f"{step.target} makes {size_of(value)} numbers at node {step.name!r}"
                raise InvalidInput(_FIELD, problem, f"Stay below {_MOST_ELEMENTS}")
            known[step.name] = value
        return known[self._loss.name], {key: known[ref.name] for key, ref in self._metrics.items()}


def read_graph(inputs: Sequence[str], content: Mapping[str, Any]) -> Graph:
    """The graph in ``content``, whose placeholders must be ``inputs``. Raises InvalidInput, naming the node."""
    try:
        form = msgspec.convert(content, _GraphForm)
    except msgspec.ValidationError as error:
        raise InvalidInput(_FIELD, f"can't be read: {error}", "Send format 1") from None
    if len(form.nodes) > _MOST_NODES:
        raise InvalidInput(_FIELD, f"has {len(form.nodes)} nodes", f"Use at most {_MOST_NODES}")
    placeholders: list[str] = []
    steps: list[_Step] = []
    names: set[str] = set()
    output: _NodeForm | None = None
    for node in form.nodes:
        if output is not None or node.name in names:
            raise _refused(node, "comes after the output" if output is not None else "has the name of another")
        match node.op:
            case "placeholder":
                if steps or node.args:
                    raise _refused(node, "is a parameter with a default, or not at the beginning")
                placeholders.append(node.name)
            case "call_function" | "call_method":
                steps.append(_step(node, names))
            case "output":
                output = node
            case _:
                raise _refused(node, f"is a {node.op}, which is not offered")
        names.add(node.name)
    # what is traced may be renamed, such as a parameter "input": its target has the name that it was given
    targets = [node.target for node in form.nodes if node.op == "placeholder"]
    if targets != list(inputs):
        problem = f"takes {', '.join(targets)[:200]}, not {', '.join(inputs)[:200]}"
        raise InvalidInput(_FIELD, problem, "Declare just its parameters, in their order")
    if output is None:
        raise InvalidInput(_FIELD, "has no output", "Return the loss and a dict of metrics")
    loss, metrics = _output(output, names)
    return Graph(tuple(placeholders), steps, loss, metrics)


def _step(node: _NodeForm, names: set[str]) -> _Step:
    function = FUNCTIONS.get(node.target) if node.op == "call_function" else METHODS.get(node.target)
    if function is None:
        raise _refused(node, f"calls {node.target[:_LONGEST_SHOWN]!r}, which is not offered")
    args = tuple(_argument(node, arg, names, _DEEPEST) for arg in node.args)
    kwargs = {key: _argument(node, arg, names, _DEEPEST) for key, arg in node.kwargs.items()}
    try:
        inspect.signature(function).bind(*args, **kwargs)
    except TypeError as error:
        raise _refused(node, f"calls {node.target} with other arguments than are offered ({error})") from None
    return _Step(node.name, node.target, function, args, kwargs)


def _argument(node: _NodeForm, given: Any, names: set[str], depth: int) -> Any:
    if depth == 0:
        raise _refused(node, "has arguments within arguments, too deep")
    if given is None or isinstance(given, (bool, float, str)):
        return given
    if isinstance(given, int):
        if abs(given) > _LARGEST:
            raise _refused(node, f"has an integer beyond {_LARGEST}")
        return given
    if isinstance(given, list):
        return [_argument(node, item, names, depth - 1) for item in cast("list[Any]", given)]
    if not isinstance(given, dict) or len(cast("dict[str, Any]", given)) != 1:
        raise _refused(node, "has an argument that is of no known form")
    ((kind, value),) = cast("dict[str, Any]", given).items()
    if kind == "ref" and isinstance(value, str):
        if value not in names:
            raise _refused(node, f"uses {value[:_LONGEST_SHOWN]!r}, which is no earlier node")
        return _Ref(value)
    if kind == "tuple" and isinstance(value, list):
        return tuple([_argument(node, item, names, depth - 1) for item in cast("list[Any]", value)])
    if kind == "dict" and isinstance(value, dict):
        items = cast("dict[str, Any]", value).items()
        return {key: _argument(node, item, names, depth - 1) for key, item in items}
    if kind == "slice" and isinstance(value, list) and len(cast("list[Any]", value)) == 3:
        return slice(*[_argument(node, item, names, depth - 1) for item in cast("list[Any]", value)])
    if kind == "ellipsis":
        return Ellipsis
    if kind == "float" and isinstance(value, str) and value in _NONFINITE:
        return _NONFINITE[value]
    if kind in _CONSTANTS and isinstance(value, str):
        return value
    raise _refused(node, f"has an argument of the form {kind[:_LONGEST_SHOWN]!r}, which is not known")


def _output(node: _NodeForm, names: set[str]) -> tuple[_Ref, Mapping[str, _Ref]]:
    returned = _argument(node, node.args[0], names, _DEEPEST) if len(node.args) == 1 else None
    pair = cast("Sequence[Any]", returned) if isinstance(returned, (tuple, list)) else ()
    if len(pair) != 2 or not isinstance(pair[0], _Ref) or not isinstance(pair[1], dict):
        raise _refused(node, "is not a loss and a dict of metrics")
    metrics: dict[str, _Ref] = {}
    for key, ref in cast("dict[str, Any]", pair[1]).items():
        if not _METRIC.match(key) or not isinstance(ref, _Ref):
            raise _refused(node, f"has a metric {key[:_LONGEST_SHOWN]!r}: name it custom/<name>:sum or :mean")
        metrics[key] = ref
    return pair[0], metrics


def _filled(argument: Any, known: Mapping[str, Any]) -> Any:
    if isinstance(argument, _Ref):
        return known[argument.name]
    if isinstance(argument, tuple):
        return tuple([_filled(item, known) for item in cast("tuple[Any, ...]", argument)])
    if isinstance(argument, list):
        return [_filled(item, known) for item in cast("list[Any]", argument)]
    if isinstance(argument, dict):
        return {key: _filled(item, known) for key, item in cast("dict[str, Any]", argument).items()}
    if isinstance(argument, slice):
        cut = cast("Any", argument)
        return slice(*(_filled(part, known) for part in (cut.start, cut.stop, cut.step)))
    return argument


def _refused(node: _NodeForm, problem: str) -> InvalidInput:
    return InvalidInput(
        _FIELD, f"node {node.name[:_LONGEST_SHOWN]!r} {problem}", "See docs/losses.md for what may be used"
    )
