"""Single values from users: of the kind and within the range that is due, or an InvalidInput that says so.

Numbers of numpy are taken and become Python's own, since JSON knows no others. A bool is no number here:
where one stands, something else was meant.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Mapping
from numbers import Real
from typing import Any, Literal, TypeAlias, cast

from tinker_actors.errors import InvalidInput

__all__ = ["CheckpointKind", "checkpoint_parts", "checkpoint_path", "flag", "integer", "number", "text", "texts"]

CheckpointKind: TypeAlias = Literal["weights", "sampler_weights", "external_weights"]
_KINDS: tuple[CheckpointKind, ...] = ("weights", "sampler_weights", "external_weights")

_INT64_END = 2**63
_LONGEST_SHOWN = 60
_SCHEME = "tinker://"
_FOREIGN = re.compile(r"[^A-Za-z0-9_.:~@!$&'()*+,;=-]")  # in no part of a URL's path either
_DOTS = re.compile(r"[.…]+\Z")  # what people write in the place of the rest


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


def checkpoint_parts(
    field: str, value: Any, *, kind: CheckpointKind | None = None
) -> tuple[str, CheckpointKind, str]:
    """Run, kind and name of a tinker path; with ``kind``, a path of another one is refused.

    The run id may contain colons, so this is split by hand and never parsed as a URL.
    """
    cure = f"Give a whole one, of the form tinker://<run>/{kind or '<kind>'}/<name>"
    path, parts = _path(field, value, cure)
    if len(parts) != 3 or parts[1] not in _KINDS:
        raise InvalidInput(field, f"{path!r:.200} is not a checkpoint's path", cure)
    found: CheckpointKind = next(known for known in _KINDS if known == parts[1])
    if kind is not None and found != kind:
        raise InvalidInput(
            field,
            f"{path!r:.200} names {found.replace('_', ' ')} where {kind.replace('_', ' ')} are due",
            "Use the path that save_state returned"
            if kind == "weights"
            else "Use the path that save_weights_for_sampler returned",
        )
    return parts[0], found, parts[2]


def checkpoint_path(field: str, value: Any, *, kind: CheckpointKind) -> str:
    """``value`` if it can lead to a checkpoint of ``kind`` at some server.

    Besides the usual form some servers give their checkpoints paths like tinker://<run>/<name> and
    tinker://<run>/checkpoints/<name>; these are for the server to judge.
    """
    path, parts = _path(field, value, f"Give a whole one, of the form tinker://<run>/{kind}/<name>")
    if len(parts) not in (2, 3) or (len(parts) == 3 and parts[1] in _KINDS):
        checkpoint_parts(field, path, kind=kind)
    return path


def _path(field: str, value: Any, cure: str) -> tuple[str, list[str]]:
    path = text(field, value, cure)
    if not path.startswith(_SCHEME):
        raise InvalidInput(field, f"{path!r:.200} is not a tinker path", cure)
    parts = path.removeprefix(_SCHEME).split("/")
    for part in parts:
        if not part:
            raise InvalidInput(field, f"{path!r:.200} lacks a part", cure)
        if _DOTS.match(part):
            raise InvalidInput(field, f"{path!r:.200} has {part!r} in the place of a part", cure)
        if foreign := _FOREIGN.search(part):
            raise InvalidInput(field, f"{path!r:.200} holds {foreign.group()!r}, which no such path does", cure)
    return path, parts


def _shown(value: object) -> str:
    try:
        shown = repr(value)
    except ValueError:  # an int of more digits than Python turns into text
        shown = "a number of thousands of digits"
    return shown if len(shown) <= _LONGEST_SHOWN else f"{shown[:_LONGEST_SHOWN]}..."
