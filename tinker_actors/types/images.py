"""Images within a model's input: their bytes, or where the server finds them."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import msgspec

from tinker_actors.checks import integer, text
from tinker_actors.errors import InvalidInput

__all__ = ["ImageAssetPointerChunk", "ImageChunk", "ImageFormat"]

ImageFormat: TypeAlias = Literal["png", "jpeg"]


class ImageChunk(msgspec.Struct, frozen=True, tag="image"):
    """An image. ``expected_tokens`` is how many tokens it should become: the server refuses it early otherwise."""

    data: bytes
    format: ImageFormat
    expected_tokens: int | None = None

    def __post_init__(self) -> None:
        given: Any = self.data
        if given.__class__ not in (bytes, bytearray, memoryview) or not len(given):
            raise InvalidInput("ImageChunk.data", "is not the bytes of an image", "Give the content of a file")
        msgspec.structs.force_setattr(self, "data", bytes(given))
        _check(self)

    @property
    def length(self) -> int:
        """Number of tokens, as expected; InvalidInput where ``expected_tokens`` is not set."""
        return _length(self)

    def __repr__(self) -> str:
        return f"ImageChunk({self.format}, {len(self.data)} bytes, expected_tokens={self.expected_tokens})"


class ImageAssetPointerChunk(msgspec.Struct, frozen=True, tag="image_asset_pointer"):
    """An image that the server fetches from ``location``, a path or URL. For sampling only, not for training."""

    location: str
    format: ImageFormat
    expected_tokens: int | None = None

    def __post_init__(self) -> None:
        text("ImageAssetPointerChunk.location", self.location, "Give a path or URL that the server can read")
        _check(self)

    @property
    def length(self) -> int:
        """Number of tokens, as expected; InvalidInput where ``expected_tokens`` is not set."""
        return _length(self)


def _check(chunk: ImageChunk | ImageAssetPointerChunk) -> None:
    kind = type(chunk).__name__
    if chunk.format.__class__ is not str or chunk.format not in ("png", "jpeg"):
        raise InvalidInput(f"{kind}.format", f"{chunk.format!r} is not known", "Use 'png' or 'jpeg'")
    if chunk.expected_tokens is not None:
        cure = "Give the number of tokens, or None"
        expected = integer(f"{kind}.expected_tokens", chunk.expected_tokens, cure, low=0, high=2**31 - 1)
        msgspec.structs.force_setattr(chunk, "expected_tokens", expected)


def _length(chunk: ImageChunk | ImageAssetPointerChunk) -> int:
    if chunk.expected_tokens is None:
        raise InvalidInput(
            f"{type(chunk).__name__}.expected_tokens", "is not set", "Set it, where the length of an input is needed"
        )
    return chunk.expected_tokens
