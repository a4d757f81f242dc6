"""The protocol generation that this client speaks, as servers want to know it."""

from __future__ import annotations

from typing import Final

__all__ = ["SDK_VERSION"]

SDK_VERSION: Final = "0.38.0"
