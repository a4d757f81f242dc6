"""Which form of request a server takes."""

from __future__ import annotations

from typing import final

from tinker_actors.errors import APIStatusError

__all__ = ["RequestForms"]


@final
class RequestForms:
    """Protobuf or JSON: protobuf until a server has taken JSON, and after that what it took last."""

    def __init__(self) -> None:
        self._json: bool | None = None

    @property
    def prefers_json(self) -> bool:
        """Whether the server takes JSON."""
        return self._json is True

    def taken(self, *, json: bool) -> None:
        """The server has taken a request in this form."""
        self._json = json

    def may_be_the_form(self, error: APIStatusError) -> bool:
        """Whether ``error`` may be about the form rather than what stands in it.

        415 always is. 422 also says that a value is wrong, so it only is while no form has been taken.
        """
        return error.status == 415 or (error.status == 422 and self._json is None)
