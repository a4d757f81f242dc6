"""Where a batch is cut, with images in it."""

from __future__ import annotations

import pytest

from tinker_actors.clients.training.data_processor import datum_size, split
from tinker_actors.types import Datum, ImageChunk, ModelInput

LIMITS = {"max_len": 1024, "max_bytes": 5_000_000}


def picture(size: int, text: int = 0, expected_tokens: int | None = None) -> Datum:
    chunks = ModelInput(chunks=(ImageChunk(b"\x00" * size, "png", expected_tokens),))
    return Datum(chunks.append_ints(list(range(1, text + 1))) if text else chunks, {})


@pytest.mark.parametrize(
    ("size", "count", "chunks"),
    [(100_000, 50, [50]), (100_000, 51, [50, 1]), (600_000, 9, [8, 1]), (6_000_000, 2, [1, 1])],
)
@pytest.mark.parametrize("expected_tokens", [None, 7])
def test_images_are_cut_by_their_bytes_whatever_they_say_of_tokens(
    size: int, count: int, chunks: list[int], expected_tokens: int | None
):
    data = [picture(size, expected_tokens=expected_tokens)] * count
    assert datum_size(data[0]) == size
    assert [len(chunk) for chunk in split(data, **LIMITS)] == chunks


def test_text_and_images_stay_together_until_one_more_is_too_much():
    small = Datum(ModelInput.from_ints([1, 2]), {"target_tokens": [1, 2]})
    mixed = [small, picture(2_400_000, text=10), small, picture(2_400_000, text=10), small]
    assert [len(chunk) for chunk in split(mixed, **LIMITS)] == [5]
    more = split([*mixed, picture(2_400_000), small], **LIMITS)
    assert [len(chunk) for chunk in more] == [5, 2]
    assert [datum for chunk in more for datum in chunk][:5] == mixed
