"""Numbers on the command line: read and checked, for argparse."""

from __future__ import annotations

import argparse
from typing import Final

__all__ = ["port", "positive", "seed"]

_LARGEST: Final = 2**31 - 1
_LARGEST_PORT: Final = 65535


def seed(text: str) -> int:
    """A seed of random choices."""
    return _integer(text, 0, _LARGEST)


def positive(text: str) -> int:
    """A number of things."""
    return _integer(text, 1, _LARGEST)


def port(text: str) -> int:
    """A TCP port; 0 is any."""
    return _integer(text, 0, _LARGEST_PORT)


def _integer(text: str, low: int, high: int) -> int:
    try:
        value = int(text)
    except ValueError:
        value = None
    if value is None or not low <= value <= high:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {low} to {high}")
    return value
