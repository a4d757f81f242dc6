"""Compressed bodies come back as they were, and nothing makes the decompressor give more than it may."""

import gzip
import random
import tracemalloc
import zlib

import pytest
import zstandard

from tinker_actors.codec.compression import Encoding, compress, decompress
from tinker_actors.errors import DecodeError

encodings = pytest.mark.parametrize("encoding", ["zstd", "gzip"])
MEGABYTE = 1 << 20


def bodies() -> list[bytes]:
    rng = random.Random(1)
    # around the sizes of the pieces in which gzip and zstd are worked off, and both kinds of content
    sizes = [0, 1, 511, 512, 513, (1 << 14) + 1, (1 << 18) - 1, 1 << 18, (1 << 18) + 1, (1 << 18) + 258, 3 * MEGABYTE]
    return [content for size in sizes for content in (b"a" * size, rng.randbytes(min(size, MEGABYTE)))]


@encodings
@pytest.mark.parametrize("body", bodies(), ids=len)
def test_round_trip_up_to_the_very_limit(encoding: Encoding, body: bytes):
    packed = compress(body, encoding)
    assert decompress(packed, encoding, limit=len(body)) == body
    assert decompress(memoryview(packed), encoding.upper(), limit=len(body)) == body
    if body:
        with pytest.raises(DecodeError, match="more than"):
            decompress(packed, encoding, limit=len(body) - 1)


def test_other_implementations_read_and_write_the_same():
    body = b"tokens " * 1000
    assert gzip.decompress(compress(body, "gzip")) == body
    assert zstandard.ZstdDecompressor().decompress(compress(body, "zstd")) == body
    assert decompress(gzip.compress(body), "gzip", limit=10_000) == body
    stream = zstandard.ZstdCompressor().compressobj()  # a frame that does not say its size
    assert decompress(stream.compress(body) + stream.flush(), "zstd", limit=10_000) == body


def bomb(encoding: Encoding) -> bytes:
    """A quarter of a gigabyte of nothing, in some kilobytes."""
    if encoding == "gzip":
        packer = zlib.compressobj(9, wbits=31)
        return b"".join(packer.compress(b"\0" * MEGABYTE) for _ in range(256)) + packer.flush()
    stream = zstandard.ZstdCompressor(level=3).compressobj()
    return b"".join(stream.compress(b"\0" * MEGABYTE) for _ in range(256)) + stream.flush()


@encodings
def test_a_bomb_takes_no_more_memory_than_its_limit_and_a_piece(encoding: Encoding):
    packed = bomb(encoding)
    tracemalloc.start()
    try:
        with pytest.raises(DecodeError, match="more than 1000 bytes"):
            decompress(packed, encoding, limit=1000)
        assert tracemalloc.get_traced_memory()[1] < 40 * MEGABYTE
    finally:
        tracemalloc.stop()


def test_the_size_that_a_frame_declares_is_not_believed():
    frame = bytearray(zstandard.ZstdCompressor().compress(b"a" * 1000))
    honest = zstandard.get_frame_parameters(bytes(frame)).content_size
    assert honest == 1000
    # declares 999 bytes, holds 1000
    at = bytes(frame).index((1000 - 256).to_bytes(2, "little"))
    frame[at : at + 2] = (999 - 256).to_bytes(2, "little")
    with pytest.raises(DecodeError):
        decompress(bytes(frame), "zstd", limit=10_000)


def test_a_window_beyond_the_standard_is_refused():
    parameters = zstandard.ZstdCompressionParameters(window_log=27, enable_ldm=True)
    stream = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    with pytest.raises(DecodeError, match="damaged"):
        decompress(stream.compress(b"a" * 100) + stream.flush(), "zstd", limit=1000)


@encodings
def test_cut_and_prolonged_bodies_are_refused(encoding: Encoding):
    packed = compress(b"some tokens" * 50, encoding)
    for cut in range(len(packed)):
        with pytest.raises(DecodeError):
            decompress(packed[:cut], encoding, limit=10_000)
    with pytest.raises(DecodeError, match="behind it"):
        decompress(packed + b"x", encoding, limit=10_000)


def test_no_encoding_is_bounded_too_and_unknown_ones_are_named():
    assert decompress(b"abc", "identity", limit=3) == b"abc"
    with pytest.raises(DecodeError, match="more than 2"):
        decompress(b"abc", "", limit=2)
    with pytest.raises(DecodeError, match="'br'"):
        decompress(b"abc", "br", limit=10)
