"""Which form of request a server takes, and whether it takes it packed."""

from __future__ import annotations

from typing import final

from tinker_actors.errors import APIStatusError

__all__ = ["RequestForms"]


@final
class RequestForms:
    """Protobuf or JSON: protobuf until a server has taken JSON, and after that what it took last.

    Protobuf packed with zstd, for servers that ask for it, until one has refused it and taken the same unpacked.
    """

    def __init__(self) -> None:
        self._json: bool | None = None
        self._packed: bool | None = None

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

    @property
    def may_pack(self) -> bool:
        """Whether a body may be packed: no server was found to refuse that."""
        return self._packed is not False

    def packed(self, *, taken: bool) -> None:
        """The server has taken a packed body, or has refused it and taken what was in it."""
        self._packed = taken

    def may_be_the_packing(self, error: APIStatusError) -> bool:
        """Whether ``error`` may be about the packing: as with the form, 422 only until a packed body was taken."""
        return error.status == 415 or (error.status == 422 and self._packed is None)
