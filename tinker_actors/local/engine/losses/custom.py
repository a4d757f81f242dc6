"""custom: a loss that a user has uploaded as a graph (WIRE 9.3)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final, cast

import autograd.core
import autograd.numpy
import numpy as np

from tinker_actors.errors import InvalidInput
from tinker_actors.local.engine.losses.graph import Graph, read_graph
from tinker_actors.local.engine.losses.graph_operations import plain
from tinker_actors.local.engine.losses.loss import Inputs, Loss, Settings, Terms
from tinker_actors.types.custom_loss import CreateCustomLossRequest
from tinker_actors.types.tensor import FloatArray

__all__ = ["custom_loss"]

_n: Any = autograd.numpy
_LOGPROBS: Final = "logprobs"
_NAME: Final = re.compile(r"[a-z_][a-z0-9_]{0,63}\Z")
_MOST_INPUTS: Final = 16


def custom_loss(request: CreateCustomLossRequest) -> Loss:
    """The loss of a user's graph, checked. Raises InvalidInput, naming what is wrong with it."""
    names = [given.name for given in request.inputs]
    if not names or names[0] != _LOGPROBS or request.inputs[0].rank == 0:
        raise InvalidInput("inputs", "do not begin with logprobs of rank 1 or 2", "Declare logprobs first")
    if len(names) > _MOST_INPUTS or len(set(names)) != len(names):
        problem = f"are {len(names)}" if len(names) > _MOST_INPUTS else "have a name twice"
        raise InvalidInput("inputs", problem, f"Declare at most {_MOST_INPUTS}, each once")
    for name in names:
        if not _NAME.match(name):
            raise InvalidInput("inputs", f"{name[:80]!r} is no name of an input", "Use lowercase letters, digits, _")
    graph = read_graph(names, request.graph)
    ranks = {given.name: given.rank for given in request.inputs}
    others = tuple(names[1:])
    return Loss(inputs=others, ranks=ranks, many_targets=True, terms=partial(_terms, graph, others))


def _terms(graph: Graph, names: tuple[str, ...], lp: FloatArray, inputs: Inputs, _settings: Settings) -> Terms:
    # in float64, so that a gradient is as exact as the log-probabilities are
    others = [np.asarray(inputs[name], np.float64) for name in names]
    found: dict[str, Any] = {}

    def run(logprobs: Any) -> Any:
        loss, metrics = graph.run([logprobs, *others])
        found.update(metrics)
        if np.ndim(plain(loss)) != 0:
            shape = list(np.shape(plain(loss)))
            raise InvalidInput("graph", f"its loss has the shape {shape}", "Return a scalar, such as a sum")
        # autograd warns of what does not depend on its input
        return loss if loss is not plain(loss) else loss + 0.0 * _n.sum(logprobs)

    with np.errstate(all="ignore"):  # what is not finite is refused by name, not by a warning
        make_vjp = cast("Callable[..., tuple[Callable[[Any], Any], Any]]", autograd.core.make_vjp)
        backward, loss = make_vjp(run, lp.astype(np.float64))
        slope = np.asarray(backward(np.float64(1.0)), np.float64)
    held = np.asarray(plain(loss), lp.dtype).reshape(1)
    return Terms(held, np.broadcast_to(slope, lp.shape).astype(lp.dtype), _numbers(found))


def _numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    numbers: dict[str, float] = {}
    for key, value in metrics.items():
        if np.size(plain(value)) != 1:
            raise InvalidInput("graph", f"its metric {key!r} is no scalar", "Return scalars")
        numbers[key] = float(np.asarray(plain(value)).reshape(()))
    return numbers
