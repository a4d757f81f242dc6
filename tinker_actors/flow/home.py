"""Where handles may be used: in the trio program that opened their runtime."""

from __future__ import annotations

from typing import final

import trio

from tinker_actors.errors import WrongPlace

__all__ = ["Home"]


@final
class Home:
    """The run of trio in which it was made. trio's events and queues are torn when touched from any other place."""

    __slots__ = ("_token",)

    def __init__(self) -> None:
        self._token = trio.lowlevel.current_trio_token()

    def require(self, what: object) -> None:
        """Raise WrongPlace, having touched nothing, when called from another thread or another run of trio."""
        try:
            token = trio.lowlevel.current_trio_token()
        except RuntimeError:
            token = None
        if token is not self._token:
            where = "outside of trio" if token is None else "in another run of trio"
            raise WrongPlace(
                f"{what} was used {where}, and nothing was done. It belongs to the trio program that opened its "
                "runtime: use it there, from other threads by trio.from_thread.run"
            )
