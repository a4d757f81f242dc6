"""Fault plans from JSON: ``{"faults": [{"type": "DropAfter", "path": "/optim_step", "nth": 2}, ...]}``."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, cast

import msgspec

from tinker_actors.errors import InvalidInput
from tinker_actors.testing.faults.kinds import FaultKind
from tinker_actors.testing.faults.plan import FAULT_KINDS, Fault, FaultPlan

__all__ = ["plan_from_json"]

_KINDS = {kind.__name__: kind for kind in FAULT_KINDS}
_FORM = 'Give {"faults": [{"type": "DropAfter", "path": "/optim_step", "nth": 2}]}'


def plan_from_json(data: bytes | str) -> FaultPlan:
    """The plan that ``data`` holds; fields and defaults are those of the kinds.

    Raises InvalidInput, which names the fault and its field, what is wrong there, and what is allowed.
    """
    try:
        plan: object = msgspec.json.decode(data)
    except msgspec.DecodeError as error:
        raise InvalidInput("faults", f"is no JSON: {error}", _FORM) from None
    if not isinstance(plan, dict) or set(cast("dict[str, Any]", plan)) != {"faults"}:
        raise InvalidInput("faults", 'is no object with the key "faults", and no other', _FORM)
    faults: object = cast("dict[str, object]", plan)["faults"]
    if not isinstance(faults, list):
        raise InvalidInput("faults", "is no list", _FORM)
    return FaultPlan(
        tuple([_fault(f"faults[{number}]", one) for number, one in enumerate(cast("list[Any]", faults))])
    )


def _fault(place: str, given: Any) -> Fault:
    if not isinstance(given, Mapping):
        raise InvalidInput(place, f"is {given!r}", _FORM)
    fields = dict(cast("Mapping[str, Any]", given))
    name = fields.pop("type", None)
    kind = _KINDS.get(name) if isinstance(name, str) else None
    if kind is None:
        raise InvalidInput(f"{place}.type", f"is {name!r}, which is no kind of fault", _instead(str(name), _KINDS))
    known = {field.name: field.required for field in msgspec.structs.fields(kind)}
    for field in fields.keys() - known.keys():
        raise InvalidInput(f"{place}.{field}", f"is no field of {name}", _instead(field, known))
    for field, required in known.items():
        if required and field not in fields:
            raise InvalidInput(f"{place}.{field}", f"is missing, and a {name} needs it", "docs/faults.md tells of it")
    try:
        return cast("Fault", _made(kind, fields))
    except InvalidInput as error:
        raise InvalidInput(f"{place}.{error.field}", error.problem, error.cure) from None


def _made(kind: type[FaultKind], fields: dict[str, Any]) -> FaultKind:
    return kind(**fields)


def _instead(name: str, known: Mapping[str, object]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    meant = f"Did you mean {near[0]}? " if near else ""
    return f"{meant}There are {', '.join(known)}"
