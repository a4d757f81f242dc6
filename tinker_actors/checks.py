"""Single values from users: of the kind and within the range that is due, or an InvalidInput that says so.

Numbers of numpy are taken and become Python's own, since JSON knows no others. A bool is no number here:
where one stands, something else was meant.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from numbers import Real
from typing import Any, cast

from tinker_actors.errors import InvalidInput

__all__ = ["flag", "integer", "number", "text", "texts"]

_INT64_END = 2**63
_LONGEST_SHOWN = 60


def integer(field: str, value: Any, cure: str, *, low: int = -_INT64_END, high: int = _INT64_END - 1) -> int:
    """``value`` as an int from ``low`` to ``high``, both of them included."""
    if value.__class__ is not int:
        try:
            if isinstance(value, bool):
                raise TypeError
            value = operator.index(value)
        except TypeError:
            raise InvalidInput(field, f"{_shown(value)} is not an integer", cure) from None
    if low <= value <= high:
        return cast("int", value)
    problem = "is not positive" if low == 1 and value < low else "is out of range"
    raise InvalidInput(field, f"{_shown(value)} {problem}", cure)


def number(field: str, value: Any, cure: str) -> float:
    """``value`` as a float; infinities and NaN are floats, too."""
    if value.__class__ is float:
        return cast("float", value)
    try:
        if isinstance(value, bool) or not isinstance(value, Real):
            raise TypeError
        return float(value)
    except TypeError:
        raise InvalidInput(field, f"{_shown(value)} is not a number", cure) from None
    except OverflowError:
        raise InvalidInput(field, f"{_shown(value)} is out of range", cure) from None


def flag(field: str, value: Any) -> bool:
    """``value`` if it is True or False."""
    if not isinstance(value, bool):
        raise InvalidInput(field, f"{_shown(value)} is neither True nor False", "Give one of them")
    return value


def text(field: str, value: Any, cure: str, *, empty: bool = False) -> str:
    """``value`` if it is a string that can be sent, and not the empty one unless ``empty`` is allowed."""
    if not isinstance(value, str):
        raise InvalidInput(field, f"{_shown(value)} is not a string", cure)
    if not value and not empty:
        raise InvalidInput(field, "is empty", cure)
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InvalidInput(field, f"{_shown(value)} holds half a surrogate pair", cure) from None
    return value


def texts(field: str, value: Any) -> dict[str, str]:
    """``value`` as a dict if it maps strings to strings; an empty one for None."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise InvalidInput(field, f"{_shown(value)} is not a mapping", "Give a dict of strings")
    out: dict[str, str] = {}
    for key, item in cast("Mapping[Any, Any]", value).items():
        name = text(f"{field}'s keys", key, "Give strings", empty=True)
        out[name] = text(f"{field}[{name!r}]", item, "Give strings", empty=True)
    return out


def _shown(value: object) -> str:
    try:
        shown = repr(value)
    except ValueError:  # an int of more digits than Python turns into text
        shown = "a number of thousands of digits"
    return shown if len(shown) <= _LONGEST_SHOWN else f"{shown[:_LONGEST_SHOWN]}..."
