"""Tensors as they travel: flat values, a dtype and a shape, kept as one numpy array."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias, cast

import msgspec
import numpy as np
from numpy.typing import NDArray

from tinker_actors.checks import integer
from tinker_actors.errors import InvalidInput

__all__ = ["FloatArray", "IntArray", "TensorArray", "TensorData", "TensorDtype", "TokenArray"]

TensorDtype: TypeAlias = Literal["int64", "float32"]
IntArray: TypeAlias = NDArray[np.int64]
FloatArray: TypeAlias = NDArray[np.float32]
TokenArray: TypeAlias = NDArray[np.int32]
TensorArray: TypeAlias = NDArray[np.int64] | NDArray[np.float32]

_INT64_END = 2**63
_LARGEST_FLOAT32 = float(np.finfo(np.float32).max)


class TensorData(msgspec.Struct, frozen=True, eq=False):
    """A dense tensor of float32 or int64.

    ``data`` is given as a numpy array or a flat list; it is kept as a contiguous, read-only numpy array
    of ``dtype`` and ``shape``. Integer arrays become int64 and floating ones float32 when no ``dtype`` is
    named. Raises InvalidInput when values and shape disagree.
    """

    data: TensorArray | Sequence[float] | Sequence[int]
    dtype: TensorDtype | None = None
    shape: Sequence[int] | None = None

    def __post_init__(self) -> None:
        try:
            array = np.asarray(self.data)
        except (ValueError, TypeError) as error:  # ragged, or of strange objects
            problem = "is not a tensor of numbers"
            raise InvalidInput("TensorData.data", problem, "Give a flat list or array of numbers") from error
        dtype = self.dtype
        if dtype is None:
            dtype = "int64" if array.size and np.issubdtype(array.dtype, np.integer) else "float32"
        if dtype.__class__ is not str or dtype not in ("int64", "float32"):
            raise InvalidInput("TensorData.dtype", f"{dtype!r} is not known", "Use 'int64' or 'float32'")
        if array.dtype.kind not in "iufb":
            raise InvalidInput("TensorData.data", "holds values that are not numbers", "Give a flat list of numbers")
        if dtype == "int64" and array.dtype.kind == "f" and array.size and not np.all(array == np.floor(array)):
            raise InvalidInput("TensorData.data", "holds fractions in an int64 tensor", "Use dtype='float32'")
        kept = _converted(array, dtype)
        shape = array.shape if self.shape is None else _shape(self.shape)
        if any(n < 0 for n in shape) or math.prod(shape) != kept.size:
            raise InvalidInput(
                "TensorData.shape",
                f"{list(shape)} does not hold the {kept.size} values given",
                "Give as many values as the product of the shape",
            )
        if kept.base is None and (kept is not array or isinstance(self.data, list | tuple)):
            kept.flags.writeable = False  # nobody else has it, so codecs need not copy it
        kept = kept.reshape(shape)
        if kept is self.data:
            kept = kept.view()
        kept.flags.writeable = False
        msgspec.structs.force_setattr(self, "data", kept)
        msgspec.structs.force_setattr(self, "dtype", dtype)
        msgspec.structs.force_setattr(self, "shape", shape)

    @classmethod
    def from_numpy(cls, array: NDArray[np.generic]) -> TensorData:
        """A tensor over the array's own memory where dtype and layout allow it, else over a copy."""
        return cls(array)  # pyright: ignore[reportArgumentType]  # any numeric dtype is converted

    def to_numpy(self) -> TensorArray:
        """The values as a read-only array of ``shape``; no copy."""
        assert isinstance(self.data, np.ndarray)
        return self.data

    def tolist(self) -> list[float] | list[int]:
        """The values as one flat list, row by row."""
        return self.to_numpy().ravel().tolist()

    def __len__(self) -> int:
        return int(self.to_numpy().size)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, TensorData):
            return NotImplemented
        # bytes, not values: NaN equals itself here, as it does on the wire
        mine, theirs = self.to_numpy(), other.to_numpy()
        return mine.dtype == theirs.dtype and mine.shape == theirs.shape and mine.tobytes() == theirs.tobytes()

    def __hash__(self) -> int:
        array = self.to_numpy()
        return hash((array.dtype.str, array.shape, array.tobytes()))

    def __repr__(self) -> str:
        array = self.to_numpy()
        return f"TensorData({array.dtype.name}, shape={list(array.shape)})"


def _shape(given: Any) -> tuple[int, ...]:
    cure = "Give a list of sizes"
    if not isinstance(given, tuple | list):
        raise InvalidInput("TensorData.shape", "is not a list", cure)
    return tuple([integer("TensorData.shape", size, cure) for size in cast("list[Any]", given)])


def _converted(array: NDArray[np.generic], dtype: TensorDtype) -> TensorArray:
    """``array`` as ``dtype``; what would change a value without a word is refused."""
    if dtype == "int64":
        # in Python's own numbers, which compare exactly
        if (
            array.dtype.kind in "uf"
            and array.size
            and not -_INT64_END <= array.min().item() <= array.max().item() < _INT64_END
        ):
            raise InvalidInput("TensorData.data", "holds values beyond int64", "Use numbers below 2**63")
        return np.ascontiguousarray(array, dtype=np.int64)
    if array.dtype.kind == "f" and array.dtype.itemsize > 4:
        largest = np.abs(array).max(initial=0.0, where=np.isfinite(array))
        if largest > _LARGEST_FLOAT32:
            raise InvalidInput("TensorData.data", "holds values beyond float32", "Use numbers below 3.4e38")
    return np.ascontiguousarray(array, dtype=np.float32)
