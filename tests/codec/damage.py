"""Bodies with damage of every kind, and a decoder held to its bounds of time and memory while it reads them."""

from __future__ import annotations

import random
import time
import tracemalloc
from collections.abc import Callable, Iterator

from tinker_actors.errors import DecodeError

__all__ = ["damaged", "held_to_its_bounds"]

_CPU = 2.0  # seconds of this thread for a body of a few KiB, however busy the machine is
# lengths, counts and markers that decoders have to look twice at
_ODD = (
    b"\0",
    b"\xff",
    b"\x80" * 10,
    b"\xff" * 9 + b"\x01",
    b"\xff\xff\xff\xff\x0f",
    b"\xfe\xff\xff\x7f",
    b"\0\0\0\0\0\0\0\x80",
    b"null",
    b"-1",
    b"1e999",
    b"NaN",
    b'"\\ud800"',
    b"[" * 2000,
    b'{"type":' * 300,
    b"9" * 400,
    b"\r\n\r\n",
    b"\n\n",
    b"\xef\xbb\xbf",
)


def damaged(body: bytes, seed: int, count: int) -> Iterator[bytes]:
    """``count`` bodies made of ``body``: cut, flipped, with pieces lost, repeated, strange or of nobody's."""
    rng = random.Random(seed)
    for _ in range(count):
        out = bytearray(body) if rng.random() < 0.9 else bytearray(rng.randbytes(rng.randrange(200)))
        for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
            start, end = sorted((rng.randint(0, len(out)), rng.randint(0, len(out))))
            match rng.randrange(7):
                case 0:
                    del out[start:]
                case 1:
                    del out[start : min(end, start + 16)]
                case 2:
                    out[start:start] = out[start : min(end, start + 64)] * rng.choice((1, 1, 40))
                case 3:
                    out[start:start] = rng.choice(_ODD)
                case 4 if out:
                    out[min(start, len(out) - 1)] ^= 1 << rng.randrange(8)
                case 5 if out:
                    out[min(start, len(out) - 1)] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
                case _:
                    out[start : min(end, start + 8)] = rng.randbytes(rng.randrange(9))
        yield bytes(out)


def held_to_its_bounds(decode: Callable[[bytes], object], body: bytes, *, memory: int) -> None:
    """Decode ``body`` to a value or a DecodeError, in ``_CPU`` seconds and ``memory`` bytes; AssertionError else."""
    tracemalloc.start()
    begun = time.thread_time()
    try:
        decode(body)
    except DecodeError as error:
        assert str(error)  # noqa: PT017 - it must say what is wrong
    except Exception as error:
        raise AssertionError(f"{error!r} instead of a DecodeError for {body[:100]!r}") from error
    finally:
        taken = time.thread_time() - begun
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert taken < _CPU, f"{taken:.1f} s of CPU for {len(body)} bytes: {body[:100]!r}"
    assert peak < memory, f"{peak} bytes of memory for {len(body)} bytes: {body[:100]!r}"
