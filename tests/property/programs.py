"""What the invariants' random programs are made of."""

from __future__ import annotations

import trio
from hypothesis import settings
from hypothesis import strategies as st

from supervision import (
    Cast,
    handles,
)
from tests.supervision.world import (
    Counter,
)

seeds = st.integers(0, 2**32 - 1)


common = settings(deadline=None)  # examples: by profile


class Note(Cast, frozen=True):
    """Log it; take `nap` seconds over it; then crash, if so."""

    n: int
    nap: float = 0.0
    crash: bool = False


class NapCast(Cast, frozen=True):
    """Never done."""


class Mortal(Counter):
    @handles(NapCast)
    async def nap_for_ever(self, message: NapCast) -> None:
        await trio.sleep_forever()
