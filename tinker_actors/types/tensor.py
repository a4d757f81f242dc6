"""Tensors as they travel: values, a dtype and a shape, dense or in compressed sparse rows (CSR)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias, cast

import msgspec
import numpy as np
from numpy.typing import NDArray

from tinker_actors.checks import integer
from tinker_actors.errors import InvalidInput
from tinker_actors.types.integers import INT64, first_outside
from tinker_actors.types.lists import float32_list, int64_list
from tinker_actors.types.torch import array_of_torch, is_torch, torch_of_array

__all__ = ["FloatArray", "IntArray", "TensorArray", "TensorData", "TensorDtype", "TokenArray"]

TensorDtype: TypeAlias = Literal["int64", "float32"]
IntArray: TypeAlias = NDArray[np.int64]
FloatArray: TypeAlias = NDArray[np.float32]
TokenArray: TypeAlias = NDArray[np.int32]
TensorArray: TypeAlias = NDArray[np.int64] | NDArray[np.float32]

_FLOAT32, _INT64 = np.dtype(np.float32), np.dtype(np.int64)
_INT64_END = 2**63
_LARGEST_FLOAT32 = float(np.finfo(np.float32).max)
_LARGEST_DENSE = 1 << 28  # a sparse tensor of a few bytes can be of any shape; numbers, so 1 to 2 GiB


class TensorData(msgspec.Struct, frozen=True, eq=False):
    """A tensor of float32 or int64.

    ``data`` is given as a numpy array, a torch tensor or a flat list; it is kept as a contiguous, read-only numpy
    array of ``dtype`` and ``shape``. Integer arrays become int64 and floating ones float32 when no ``dtype`` is
    named. With ``sparse_crow_indices`` (rows + 1 row pointers) and ``sparse_col_indices`` (a column for each value)
    the tensor is in compressed sparse rows: ``data`` holds the stored values only, and ``shape``, [rows, columns],
    must be given. Raises InvalidInput when values, indices and shape disagree.
    """

    data: TensorArray | Sequence[float] | Sequence[int]
    dtype: TensorDtype | None = None
    shape: Sequence[int] | None = None
    sparse_crow_indices: IntArray | Sequence[int] | None = None
    sparse_col_indices: IntArray | Sequence[int] | None = None

    def __post_init__(self) -> None:
        keep = msgspec.structs.force_setattr
        given: Any = self.data
        if (
            given.__class__ is np.ndarray
            and self.dtype is None
            and self.shape is None
            and self.sparse_crow_indices is None
            and self.sparse_col_indices is None
            and (given.dtype is _FLOAT32 or given.dtype is _INT64)
            and not given.flags.writeable
            and given.flags.c_contiguous
            and given.size
        ):
            keep(self, "dtype", "float32" if given.dtype is _FLOAT32 else "int64")  # what results are made of
            keep(self, "shape", given.shape)
            return
        kept, dtype = _values(self.data, self.dtype)
        if self.sparse_crow_indices is not None or self.sparse_col_indices is not None:
            rows = _indices("TensorData.sparse_crow_indices", self.sparse_crow_indices)
            columns = _indices("TensorData.sparse_col_indices", self.sparse_col_indices)
            shape = _sparse_shape(self.shape, kept, rows, columns)
            keep(self, "sparse_crow_indices", rows)
            keep(self, "sparse_col_indices", columns)
        else:
            shape = kept.shape if self.shape is None else _shape(self.shape)
            if any(n < 0 for n in shape) or math.prod(shape) != kept.size:
                raise InvalidInput(
                    "TensorData.shape",
                    f"{list(shape)} does not hold the {kept.size} values given",
                    "Give as many values as the product of the shape",
                )
            kept = _shaped(kept, shape)
        if kept is self.data:
            kept = kept.view()
        kept.flags.writeable = False
        keep(self, "data", kept)
        keep(self, "dtype", dtype)
        keep(self, "shape", shape)

    @classmethod
    def from_numpy(cls, array: NDArray[np.generic]) -> TensorData:
        """A tensor over the array's own memory where dtype and layout allow it, else over a copy."""
        return cls(array)  # pyright: ignore[reportArgumentType]  # any numeric dtype is converted

    @classmethod
    def from_torch(cls, tensor: Any) -> TensorData:
        """A tensor of a torch tensor's values, from whatever device; bfloat16 and float16 become float32."""
        return cls(array_of_torch("TensorData.data", tensor))  # pyright: ignore[reportArgumentType]

    @classmethod
    def from_dense(cls, array: NDArray[np.generic], *, pad_value: int = 0) -> TensorData:
        """A tensor in compressed sparse rows where that takes fewer numbers than ``array``, else a dense one.

        Entries equal to ``pad_value`` are left out, which saves only in two dimensions.
        """
        dense = cls.from_numpy(array)
        values = dense.values
        if values.ndim != 2:
            return dense
        kept = values != pad_value
        counts = np.count_nonzero(kept, axis=1)
        stored = int(counts.sum())
        if len(values) + 1 + 2 * stored >= values.size:
            return dense
        rows = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts, dtype=np.int64)])
        return cls(values[kept], dense.dtype, dense.dims, rows, np.nonzero(kept)[1].astype(np.int64))

    @property
    def values(self) -> TensorArray:
        """The numbers that are stored: all of a dense tensor in its shape, the listed ones of a sparse one."""
        assert isinstance(self.data, np.ndarray)
        return self.data

    @property
    def dims(self) -> tuple[int, ...]:
        """The shape."""
        assert isinstance(self.shape, tuple)
        return self.shape

    @property
    def indices(self) -> tuple[IntArray, IntArray] | None:
        """Row pointers and columns of a sparse tensor; None for a dense one."""
        if self.sparse_crow_indices is None:
            return None
        return cast("tuple[IntArray, IntArray]", (self.sparse_crow_indices, self.sparse_col_indices))

    @property
    def nbytes(self) -> int:
        """Bytes of what is stored, indices and all."""
        indices = self.indices
        return self.values.nbytes + (0 if indices is None else indices[0].nbytes + indices[1].nbytes)

    def to_numpy(self, pad_value: int = 0) -> TensorArray:
        """The values as a read-only array of ``shape``; no copy of a dense tensor.

        Entries that a sparse one does not list are ``pad_value``. Raises InvalidInput for a sparse one of more than
        2**28 entries.
        """
        indices = self.indices
        if indices is None:
            return self.values
        pad = integer("pad_value", pad_value, "Give an integer")
        shape = self.dims
        if math.prod(shape) > _LARGEST_DENSE:
            raise InvalidInput(
                "TensorData", f"of shape {list(shape)} is too large to be made dense", "Work with values and indices"
            )
        dense = np.full(shape, pad, self.values.dtype)
        rows, columns = indices
        dense[np.repeat(np.arange(shape[0]), np.diff(rows)), columns] = self.values
        dense.flags.writeable = False
        return cast("TensorArray", dense)

    def rows(self, bounds: Sequence[int]) -> list[TensorData]:
        """The tensors of rows ``bounds[i]`` up to ``bounds[i + 1]``, which share this one's memory.

        The bounds rise, and lie within the first dimension. Raises InvalidInput where they don't, and for a sparse
        tensor.
        """
        if self.indices is not None or not self.dims:
            raise InvalidInput("TensorData", "has no rows of its own memory", "Give a dense tensor of a dimension")
        cuts = [0, *bounds, self.dims[0]]
        if cuts != sorted(cuts):
            raise InvalidInput("bounds", "don't rise within the rows", f"Give numbers from 0 up to {self.dims[0]}")
        keep = msgspec.structs.force_setattr
        values = self.values
        out: list[TensorData] = []
        like: Any = self  # for its __copy__, which copy.copy() takes as long again to find
        length = self.dims[0]
        for start, end in itertools.pairwise(bounds):
            rows = values[start:end]
            tensor: TensorData = like.__copy__()  # of one that was checked, so that nothing is checked again
            keep(tensor, "data", rows)
            if end - start != length:
                keep(tensor, "shape", rows.shape)
                like, length = tensor, end - start
            out.append(tensor)
        return out

    def to_torch(self, pad_value: int = 0) -> Any:
        """The values as a torch tensor of their own memory. Raises InvalidInput where torch is not installed."""
        return torch_of_array(self.to_numpy(pad_value))

    def tolist(self) -> list[float] | list[int]:
        """The values as one flat list, row by row."""
        return self.to_numpy().ravel().tolist()

    def __len__(self) -> int:
        return math.prod(self.dims)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, TensorData):
            return NotImplemented
        # bytes, not values: NaN equals itself here, as it does on the wire
        return self.dims == other.dims and self._contents() == other._contents()

    def __hash__(self) -> int:
        return hash((self.dims, self._contents()))

    def __repr__(self) -> str:
        kind = "" if self.indices is None else f", {self.values.size} stored"
        return f"TensorData({self.dtype}, shape={list(self.dims)}{kind})"

    def _contents(self) -> tuple[Any, ...]:
        indices = self.indices
        stored = None if indices is None else (indices[0].tobytes(), indices[1].tobytes())
        return self.values.dtype.str, self.values.tobytes(), stored


def _values(given: Any, dtype: Any) -> tuple[TensorArray, TensorDtype]:
    if dtype is not None and (dtype.__class__ is not str or dtype not in ("int64", "float32")):
        raise InvalidInput("TensorData.dtype", f"{dtype!r} is not known", "Use 'int64' or 'float32'")
    if dtype != "float32":
        ints = int64_list(given)
        if ints is not None:
            return ints, "int64"
    if dtype != "int64":
        floats = float32_list(given)
        if floats is not None:
            return floats, "float32"
        ints = None if dtype is None else int64_list(given)
        if ints is not None:
            return _own(ints.astype(np.float32)), "float32"
    if is_torch(given):
        given = array_of_torch("TensorData.data", given)
    return _looked_into(given, dtype)


def _looked_into(given: Any, dtype: TensorDtype | None) -> tuple[TensorArray, TensorDtype]:
    try:
        array = np.asarray(given)
    except (ValueError, TypeError) as error:  # ragged, or of strange objects
        problem = "is not a tensor of numbers"
        raise InvalidInput("TensorData.data", problem, "Give a flat list or array of numbers") from error
    if dtype is None:
        dtype = "int64" if array.size and np.issubdtype(array.dtype, np.integer) else "float32"
    if dtype == "int64" and array.dtype.kind in "ufO" and (place := first_outside(given, *INT64)):
        raise _beyond_int64("TensorData.data", place)
    if array.dtype.kind not in "iufb":
        raise InvalidInput("TensorData.data", "holds values that are not numbers", "Give a flat list of numbers")
    if dtype == "int64" and array.dtype.kind == "f" and array.size and not np.all(array == np.floor(array)):
        raise InvalidInput("TensorData.data", "holds fractions in an int64 tensor", "Use dtype='float32'")
    kept = _converted(array, dtype)
    if kept.base is None and (kept is not array or isinstance(given, list | tuple)):
        kept = _own(kept)
    return kept, dtype


def _beyond_int64(field: str, place: str | None) -> InvalidInput:
    problem = "holds values beyond int64" + (f": {place}" if place else "")
    return InvalidInput(field, problem, "Use numbers below 2**63")


def _own(array: TensorArray) -> TensorArray:
    array.flags.writeable = False  # nobody else has it, so codecs need not copy it
    return array


def _shape(given: Any) -> tuple[int, ...]:
    cure = "Give a list of sizes"
    if not isinstance(given, tuple | list):
        raise InvalidInput("TensorData.shape", "is not a list", cure)
    return tuple([integer("TensorData.shape", size, cure) for size in cast("list[Any]", given)])


def _shaped(array: TensorArray, shape: tuple[int, ...]) -> TensorArray:
    try:
        return array.reshape(shape)
    except ValueError:  # empty, and beyond what numpy can count
        raise InvalidInput("TensorData.shape", f"{list(shape)} is too large", "Give smaller sizes") from None


def _indices(field: str, given: Any) -> IntArray:
    cure = "Give the row pointers and the columns, both of them, as flat lists of integers"
    if given is None:
        raise InvalidInput(field, "is missing", cure)
    indices = int64_list(given)
    if indices is None:
        try:
            array = np.asarray(given)
        except (ValueError, TypeError) as error:
            raise InvalidInput(field, "is not a flat list of integers", cure) from error
        if place := first_outside(given, *INT64):
            raise _beyond_int64(field, place)
        if array.ndim != 1 or (array.size and array.dtype.kind not in "iu") or array.dtype == np.uint64:
            raise InvalidInput(field, "is not a flat list of integers", cure)
        indices = np.ascontiguousarray(array, dtype=np.int64)
    if indices is given:
        indices = indices.view()
    indices.flags.writeable = False
    return indices


def _sparse_shape(given: Any, values: TensorArray, rows: IntArray, columns: IntArray) -> tuple[int, ...]:
    if given is None:
        raise InvalidInput("TensorData.shape", "is missing", "Give [rows, columns] of a sparse tensor")
    shape = _shape(given)
    if len(shape) != 2 or min(shape) < 0:
        raise InvalidInput("TensorData.shape", f"{list(shape)} is not one of two sizes", "Give [rows, columns]")
    if values.ndim != 1 or len(columns) != len(values):
        raise InvalidInput(
            "TensorData.sparse_col_indices", f"are not one for each of {values.size} values", "Give a column for each"
        )
    # every difference is of numbers between 0 and the count, once the ends are right and nothing falls
    if (
        len(rows) != shape[0] + 1
        or int(rows[0]) != 0
        or int(rows[-1]) != len(values)
        or bool((rows[1:] < rows[:-1]).any())
    ):
        raise InvalidInput(
            "TensorData.sparse_crow_indices",
            "are no row pointers of such a shape",
            "Give rows + 1 of them, from 0 up to the number of values",
        )
    if len(columns):
        inside = np.ones(len(columns), np.bool_)
        inside[rows[:-1][rows[:-1] < len(columns)]] = False  # the first of each row has none before it
        if (
            int(columns.min()) < 0
            or int(columns.max()) >= shape[1]
            or bool((columns[1:] <= columns[:-1])[inside[1:]].any())
        ):
            raise InvalidInput(
                "TensorData.sparse_col_indices",
                f"are not rising columns below {shape[1]} in each row",
                "Sort the columns of each row, and name each once",
            )
    return shape


def _converted(array: NDArray[np.generic], dtype: TensorDtype) -> TensorArray:
    """``array`` as ``dtype``; what would change a value without a word is refused."""
    if dtype == "int64":
        # in Python's own numbers, which compare exactly
        if (
            array.dtype.kind in "uf"
            and array.size
            and not -_INT64_END <= array.min().item() <= array.max().item() < _INT64_END
        ):
            raise _beyond_int64("TensorData.data", first_outside(array, *INT64))
        return np.ascontiguousarray(array, dtype=np.int64)
    if array.dtype.kind == "f" and array.dtype.itemsize > 4:
        largest = np.abs(array).max(initial=0.0, where=np.isfinite(array))
        if largest > _LARGEST_FLOAT32:
            raise InvalidInput("TensorData.data", "holds values beyond float32", "Use numbers below 3.4e38")
    return np.ascontiguousarray(array, dtype=np.float32)
