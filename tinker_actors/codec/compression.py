"""Compressed bodies: zstd and gzip, decompressed with a bound on what comes out."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Literal, TypeAlias

from tinker_actors.errors import DecodeError

__all__ = ["Encoding", "compress", "decompress"]

Encoding: TypeAlias = Literal["zstd", "gzip"]

_ZSTD_LEVEL = 1  # the ratio of the usual 3 at two thirds of its time
_GZIP_LEVEL = 6
_ZSTD_WINDOW = 1 << 23  # what RFC 8878 asks every decoder to support
_GZIP_PIECE = 1 << 14
_GZIP_OUTPUT = 1 << 18
# One zstd block of 4 bytes can give 128 KiB, so a piece gives at most 16 MiB before the limit is looked at.
_ZSTD_PIECE = 512


def compress(body: bytes | memoryview | tuple[bytes | memoryview, ...], encoding: Encoding) -> bytes:
    """``body``, or a row of buffers, as one zstd frame or gzip member; a zstd frame says its size."""
    pieces = body if isinstance(body, tuple) else (body,)
    if encoding == "gzip":
        packer = zlib.compressobj(_GZIP_LEVEL, wbits=31)
    else:
        import zstandard

        size = sum(piece.nbytes if isinstance(piece, memoryview) else len(piece) for piece in pieces)
        packer = zstandard.ZstdCompressor(level=_ZSTD_LEVEL).compressobj(size=size)
    return b"".join([*(packer.compress(piece) for piece in pieces), packer.flush()])


def decompress(body: bytes | memoryview, encoding: str, *, limit: int) -> bytes:
    """What ``body`` holds, at most ``limit`` bytes of it.

    ``encoding`` is the Content-Encoding: zstd, gzip (or x-gzip) or identity. Raises DecodeError for another one, for
    more than ``limit`` bytes, and for a body that is damaged, cut off or followed by something else. The size that
    a frame declares of itself is not believed.
    """
    match encoding.strip().lower():
        case "zstd":
            pieces = _zstd(memoryview(body))
        case "gzip" | "x-gzip":
            pieces = _gzip(memoryview(body))
        case "identity" | "":
            pieces = iter((bytes(body),))
        case other:
            raise DecodeError(f"the content encoding {other!r} is not known")
    out: list[bytes] = []
    size = 0
    for piece in pieces:
        size += len(piece)
        if size > limit:
            raise DecodeError(f"a body of more than {limit} bytes once decompressed")
        out.append(piece)
    return b"".join(out)


def _zstd(body: memoryview) -> Iterator[bytes]:
    import zstandard

    unpacker = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW).decompressobj()
    at = 0
    try:
        while at < len(body) and not unpacker.eof:
            yield unpacker.decompress(body[at : at + _ZSTD_PIECE])
            at += _ZSTD_PIECE
    except zstandard.ZstdError as error:
        raise DecodeError(f"a zstd body that is damaged: {error}") from error
    if not unpacker.eof:
        raise DecodeError("a zstd body that is cut off")
    if unpacker.unused_data or at < len(body):
        raise DecodeError("a zstd body with something behind it")


def _gzip(body: memoryview) -> Iterator[bytes]:
    unpacker = zlib.decompressobj(wbits=31)
    at = 0
    try:
        while at < len(body) and not unpacker.eof:
            yield unpacker.decompress(body[at : at + _GZIP_PIECE], _GZIP_OUTPUT)
            at += _GZIP_PIECE
            while unpacker.unconsumed_tail:
                yield unpacker.decompress(unpacker.unconsumed_tail, _GZIP_OUTPUT)
    except zlib.error as error:
        raise DecodeError(f"a gzip body that is damaged: {error}") from error
    if not unpacker.eof:
        raise DecodeError("a gzip body that is cut off")
    if unpacker.unused_data or at < len(body):
        raise DecodeError("a gzip body with something behind it")
