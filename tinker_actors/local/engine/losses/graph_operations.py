"""What a custom loss may do: torch's operations on tensors, in autograd's numpy, under torch's names (WIRE 9.3).

Whatever is not listed here can't be asked for. Parameters have torch's names; what has no meaning here (devices,
memory formats) is taken and left alone. Derivatives where there is none are torch's: half each of equal maxima, zero
for abs and relu at 0, one for clamp at its bounds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias

import autograd.numpy
import autograd.tracer
import numpy as np

__all__ = ["FUNCTIONS", "METHODS", "plain", "size_of"]

Tensor: TypeAlias = Any
Dim: TypeAlias = int | Sequence[int] | None

_n: Any = autograd.numpy
_MOST_DIMS: Final = 6
_MOST_ELEMENTS: Final = 1 << 22


def plain(value: Any) -> Any:
    """``value`` without its trace: nothing flows back through it."""
    while _is_traced(value):
        value = value._value  # noqa: SLF001  # autograd has no public name for it
    return value


def _is_traced(value: Any) -> bool:
    return isinstance(value, autograd.tracer.Box)


def _is_row(value: Any) -> bool:
    return isinstance(value, (tuple, list))


def size_of(value: Any) -> int:
    """How many numbers ``value`` holds."""
    return int(np.size(plain(value))) if not isinstance(value, (tuple, list, str)) else 0


def _real(value: Any) -> Any:
    """A number as a float: integers of Python have no bound, and a power of two of them none in time."""
    held = plain(value)
    if _is_number(held):
        return value if _is_traced(value) else float(held)
    if not isinstance(held, (np.ndarray, np.generic)):
        raise TypeError(f"a {type(held).__name__} is no tensor")
    return value if _kind(held) == "f" else np.asarray(held, np.float64)


def _is_number(value: Any) -> bool:
    return isinstance(value, (bool, int, float))


def _kind(value: Any) -> str:
    return value.dtype.kind


def _truth(value: Any) -> Any:
    return np.asarray(plain(value)) != 0


def _unary(function: Callable[[Any], Any]) -> Callable[..., Any]:
    def apply(input: Tensor) -> Tensor:  # noqa: A002
        return function(_real(input))

    return apply


def _binary(function: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    def apply(input: Tensor, other: Tensor) -> Tensor:  # noqa: A002
        first, second = _real(input), _real(other)
        _check_broadcast(first, second)
        return function(first, second)

    return apply


def _check_broadcast(*values: Any) -> None:
    shape = np.broadcast_shapes(*(np.shape(plain(value)) for value in values))
    if len(shape) > _MOST_DIMS or int(np.prod(shape, dtype=np.float64)) > _MOST_ELEMENTS:
        raise ValueError(f"a shape of {list(shape)} is too large")


def _compared(function: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    return _binary(lambda first, second: function(plain(first), plain(second)))


def _scaled(function: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    def apply(input: Tensor, other: Tensor, *, alpha: float = 1.0) -> Tensor:  # noqa: A002
        first, second = _real(input), _real(other)
        _check_broadcast(first, second)
        return function(first, _real(alpha) * second)

    return apply


def _power(base: Any, exponent: Any) -> Any:
    return _n.power(_n.multiply(base, 1.0), exponent)


def _axes(dim: Dim) -> int | tuple[int, ...] | None:
    if dim is None or isinstance(dim, int):
        return dim
    return tuple(int(each) for each in dim) or None


def _reduced(function: Callable[..., Any]) -> Callable[..., Any]:
    def apply(input: Tensor, dim: Dim = None, keepdim: bool = False, dtype: str | None = None) -> Tensor:  # noqa: A002, ARG001
        return function(_real(input), axis=_axes(dim), keepdims=bool(keepdim))

    return apply


def _spread(root: bool) -> Callable[..., Any]:
    def apply(
        input: Tensor,  # noqa: A002
        dim: Dim = None,
        unbiased: bool = True,
        keepdim: bool = False,
        *,
        correction: float | None = None,
    ) -> Tensor:
        value, axis = _real(input), _axes(dim)
        freedom = float(unbiased) if correction is None else float(correction)
        middle = _n.mean(value, axis=axis, keepdims=True)
        count = size_of(value) / max(size_of(middle), 1)
        squares = _n.sum((value - middle) ** 2, axis=axis, keepdims=bool(keepdim)) / (count - freedom)
        return _n.sqrt(squares) if root else squares

    return apply


def _maximum_of(input: Tensor, other: Tensor | None = None) -> Tensor:  # noqa: A002
    return _n.max(_real(input)) if other is None else _n.maximum(_real(input), _real(other))


def _minimum_of(input: Tensor, other: Tensor | None = None) -> Tensor:  # noqa: A002
    return _n.min(_real(input)) if other is None else _n.minimum(_real(input), _real(other))


def _clamp(input: Tensor, min: Any = None, max: Any = None) -> Tensor:  # noqa: A002
    value = _real(input)
    for bound, below in ((min, True), (max, False)):
        if bound is not None:
            edge = _real(bound)
            _check_broadcast(value, edge)
            outside = plain(value) < plain(edge) if below else plain(value) > plain(edge)
            value = _n.where(outside, edge, value)
    return value


def _where(condition: Tensor, input: Tensor, other: Tensor) -> Tensor:  # noqa: A002
    first, second = _real(input), _real(other)
    _check_broadcast(plain(condition), first, second)
    return _n.where(_truth(condition), first, second)


def _log_softmax(input: Tensor, dim: int = -1, dtype: str | None = None) -> Tensor:  # noqa: A002, ARG001
    value = _real(input)
    return value - _log_sum_exp(value, int(dim))


def _softmax(input: Tensor, dim: int = -1, dtype: str | None = None) -> Tensor:  # noqa: A002, ARG001
    return _n.exp(_log_softmax(input, dim))


def _logsumexp(input: Tensor, dim: Dim, keepdim: bool = False) -> Tensor:  # noqa: A002
    summed = _log_sum_exp(_real(input), _axes(dim))
    return summed if keepdim else _n.squeeze(summed, axis=_axes(dim))


def _log_sum_exp(value: Any, axis: int | tuple[int, ...] | None) -> Any:
    most = np.max(plain(value), axis=axis, keepdims=True)
    most = np.where(np.isfinite(most), most, 0.0)
    return _n.log(_n.sum(_n.exp(value - most), axis=axis, keepdims=True)) + most


def _log_sigmoid(value: Any) -> Any:
    return -_n.logaddexp(0.0, -value)


def _softplus(input: Tensor, beta: float = 1.0, threshold: float = 20.0) -> Tensor:  # noqa: A002, ARG001
    return _n.logaddexp(0.0, _real(beta) * _real(input)) / _real(beta)


def _relu(value: Any) -> Any:
    return _n.where(plain(value) > 0.0, value, 0.0)


def _getitem(input: Tensor, index: Any) -> Any:  # noqa: A002
    return input[index] if _is_row(input) else input[_index(index)]


def _index(index: Any) -> Any:
    if _is_row(index):
        return tuple([_index(part) for part in index])
    held = plain(index)
    if not isinstance(held, np.ndarray) or _kind(held) != "f":
        return plain(index)
    return np.asarray(held, np.int64)


def _shape(sizes: tuple[Any, ...]) -> tuple[int, ...]:
    given: Any = sizes[0] if len(sizes) == 1 and _is_row(sizes[0]) else sizes
    return tuple(int(plain(size)) for size in given)


def _reshape(input: Tensor, *shape: Any) -> Tensor:  # noqa: A002
    return _n.reshape(_real(input), _shape(shape))


def _expand(input: Tensor, *sizes: Any) -> Tensor:  # noqa: A002
    value = _real(input)
    have = (1,) * (len(_shape(sizes)) - np.ndim(plain(value))) + np.shape(plain(value))
    wanted = tuple(old if new == -1 else new for old, new in zip(have, _shape(sizes), strict=True))
    return _broadcast(value, wanted)


def _broadcast(value: Any, shape: tuple[int, ...]) -> Any:
    if len(shape) > _MOST_DIMS or int(np.prod(shape, dtype=np.float64)) > _MOST_ELEMENTS:
        raise ValueError(f"a shape of {list(shape)} is too large")
    return value * np.ones(shape)


def _expand_as(input: Tensor, other: Tensor) -> Tensor:  # noqa: A002
    return _broadcast(_real(input), np.shape(plain(other)))


def _flatten(input: Tensor) -> Tensor:  # noqa: A002
    return _n.reshape(_real(input), (-1,))


def _unsqueeze(input: Tensor, dim: int) -> Tensor:  # noqa: A002
    return _n.expand_dims(_real(input), int(dim))


def _squeeze(input: Tensor, dim: Dim = None) -> Tensor:  # noqa: A002
    return _n.squeeze(_real(input), axis=_axes(dim))


def _transpose(input: Tensor, dim0: int, dim1: int) -> Tensor:  # noqa: A002
    return _n.swapaxes(_real(input), int(dim0), int(dim1))


def _t(input: Tensor) -> Tensor:  # noqa: A002
    return _n.transpose(_real(input))


def _cat(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    return _n.concatenate([_real(tensor) for tensor in tensors], axis=int(dim))


def _stack(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    return _n.stack([_real(tensor) for tensor in tensors], axis=int(dim))


def _cumsum(input: Tensor, dim: int, dtype: str | None = None) -> Tensor:  # noqa: A002, ARG001
    return _n.cumsum(_real(input), axis=int(dim))


def _size(input: Tensor, dim: int | None = None) -> Any:  # noqa: A002
    shape = np.shape(plain(input))
    return shape if dim is None else shape[int(dim)]


def _like(fill: float) -> Callable[..., Any]:
    def apply(input: Tensor, *, dtype: str | None = None, device: str | None = None) -> Tensor:  # noqa: A002, ARG001
        return np.full(np.shape(plain(input)), fill)

    return apply


def _full_like(input: Tensor, fill_value: Any, *, dtype: str | None = None) -> Tensor:  # noqa: A002, ARG001
    return np.full(np.shape(plain(input)), float(plain(fill_value)))


def _detach(input: Tensor) -> Tensor:  # noqa: A002
    return plain(input)


def _same(input: Tensor, *_args: Any, **_kwargs: Any) -> Tensor:  # noqa: A002
    return _real(input)


def _as_truth(input: Tensor) -> Tensor:  # noqa: A002
    return _truth(input)


def _getattr(input: Tensor, name: str) -> Any:  # noqa: A002
    match name:
        case "shape":
            return np.shape(plain(input))
        case "ndim":
            return np.ndim(plain(input))
        case "T" | "mT":
            return _t(input)
        case "dtype" | "device":
            return name
        case _:
            raise AttributeError(f"the attribute {name[:40]!r} is not offered")


_UNARY: Final[Mapping[str, Callable[[Any], Any]]] = {
    "abs": _n.abs,
    "cos": _n.cos,
    "exp": _n.exp,
    "expm1": _n.expm1,
    "log": _n.log,
    "log1p": _n.log1p,
    "logsigmoid": _log_sigmoid,
    "neg": _n.negative,
    "reciprocal": lambda value: 1.0 / value,
    "relu": _relu,
    "rsqrt": lambda value: 1.0 / _n.sqrt(value),
    "sigmoid": lambda value: _n.exp(_log_sigmoid(value)),
    "sign": lambda value: np.sign(plain(value)),
    "sin": _n.sin,
    "sqrt": _n.sqrt,
    "square": lambda value: value * value,
    "tanh": _n.tanh,
    "isfinite": lambda value: np.isfinite(plain(value)),
    "isnan": lambda value: np.isnan(plain(value)),
    "logical_not": lambda value: ~_truth(value),
}
_BINARY: Final[Mapping[str, Callable[..., Any]]] = {
    "add": _scaled(_n.add),
    "div": _binary(_n.true_divide),
    "maximum": _binary(_n.maximum),
    "minimum": _binary(_n.minimum),
    "mul": _binary(_n.multiply),
    "pow": _binary(_power),
    "sub": _scaled(_n.subtract),
    "eq": _compared(np.equal),
    "ge": _compared(np.greater_equal),
    "gt": _compared(np.greater),
    "le": _compared(np.less_equal),
    "lt": _compared(np.less),
    "ne": _compared(np.not_equal),
    "logical_and": _compared(np.logical_and),
    "logical_or": _compared(np.logical_or),
    "dot": _binary(_n.dot),
    "matmul": _binary(_n.matmul),
    "logaddexp": _binary(_n.logaddexp),
}
_OTHERS: Final[Mapping[str, Callable[..., Any]]] = {
    "amax": _reduced(_n.max),
    "amin": _reduced(_n.min),
    "clamp": _clamp,
    "clip": _clamp,
    "cumsum": _cumsum,
    "detach": _detach,
    "flatten": _flatten,
    "log_softmax": _log_softmax,
    "logsumexp": _logsumexp,
    "max": _maximum_of,
    "mean": _reduced(_n.mean),
    "min": _minimum_of,
    "numel": size_of,
    "prod": _reduced(_n.prod),
    "reshape": _reshape,
    "softmax": _softmax,
    "squeeze": _squeeze,
    "std": _spread(root=True),
    "sum": _reduced(_n.sum),
    "t": _t,
    "transpose": _transpose,
    "unsqueeze": _unsqueeze,
    "var": _spread(root=False),
}
_SHARED: Final[Mapping[str, Callable[..., Any]]] = {
    **{name: _unary(function) for name, function in _UNARY.items()},
    **_BINARY,
    **_OTHERS,
    "absolute": _unary(_n.abs),
    "divide": _BINARY["div"],
    "multiply": _BINARY["mul"],
    "negative": _unary(_n.negative),
    "subtract": _BINARY["sub"],
    "true_divide": _BINARY["div"],
}
_OPERATOR_NAMES: Final = {
    "abs": "abs", "add": "add", "and_": "logical_and", "eq": "eq", "ge": "ge", "gt": "gt", "iadd": "add",
    "imul": "mul", "invert": "logical_not", "isub": "sub", "itruediv": "div", "le": "le", "lt": "lt",
    "matmul": "matmul", "mul": "mul", "ne": "ne", "neg": "neg", "or_": "logical_or", "pow": "pow", "sub": "sub",
    "truediv": "div",
}  # fmt: skip
_NN: Final = ("log_softmax", "logsigmoid", "relu", "sigmoid", "softmax", "tanh")
_MATH: Final = ("cos", "exp", "expm1", "log", "log1p", "pow", "sin", "sqrt", "tanh")

METHODS: Final[Mapping[str, Callable[..., Any]]] = {
    **_SHARED,
    "bool": _as_truth,
    "clone": _same,
    "contiguous": _same,
    "double": _same,
    "expand": _expand,
    "expand_as": _expand_as,
    "float": _same,
    "size": _size,
    "to": _same,
    "type_as": _same,
    "view": _reshape,
}
"""By the name of a tensor's method."""

FUNCTIONS: Final[Mapping[str, Callable[..., Any]]] = {
    **{f"torch.{name}": function for name, function in _SHARED.items()},
    **{f"operator.{name}": _SHARED[shared] for name, shared in _OPERATOR_NAMES.items()},
    **{f"torch.nn.functional.{name}": _SHARED[name] for name in _NN},
    **{f"math.{name}": _SHARED[name] for name in _MATH},
    "builtins.getattr": _getattr,
    "operator.getitem": _getitem,
    "torch.cat": _cat,
    "torch.full_like": _full_like,
    "torch.nn.functional.softplus": _softplus,
    "torch._C._nn.softplus": _softplus,
    "torch._C._nn.log_sigmoid": _SHARED["logsigmoid"],
    "torch.ones_like": _like(1.0),
    "torch.stack": _stack,
    "torch.where": _where,
    "torch.zeros_like": _like(0.0),
}
"""By a function's qualified name."""
