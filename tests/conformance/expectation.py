"""What each public call of the official SDKs has to show against the local server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

__all__ = ["EXCEPTIONS", "EXPECTATIONS", "VERSIONS", "Expectation", "Refused", "expects"]

VERSIONS = ("0.38.0", "0.25.0", "0.24.1")

Check: TypeAlias = Callable[[Any, str], None]


class Expectation(NamedTuple):
    """One call: in which SDKs it is, and what its scenario must have seen there."""

    versions: tuple[str, ...]
    check: Check


class Refused(NamedTuple):
    """A call that this server, or this machine, can't serve, and why; nothing else may be what goes wrong."""

    call: str
    section: str
    raises: str
    text: str


EXPECTATIONS: dict[str, Expectation] = {}

EXCEPTIONS: tuple[Refused, ...] = (
    Refused(
        "ServiceClient.create_custom_loss",
        "9.3",
        "ImportError",
        "PyTorch is not installed. Cannot create a custom loss.",
    ),
)


def expects(call: str, versions: tuple[str, ...] = VERSIONS) -> Callable[[Check], Check]:
    """The decorated function asserts what ``call`` has shown, and gets the SDK's version, too."""

    def add(check: Check) -> Check:
        assert call not in EXPECTATIONS, call
        EXPECTATIONS[call] = Expectation(versions, check)
        return check

    return add
