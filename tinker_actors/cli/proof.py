"""The demo's claims, compared with what the server itself has written down."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final, TypeVar, final

import msgspec

from tinker_actors.config import Config
from tinker_actors.errors import APIStatusError
from tinker_actors.ledger import AcceptedOperation
from tinker_actors.ports import Transport
from tinker_actors.wire.api import Api

__all__ = ["Comparison", "ServerRecords", "compare"]

T = TypeVar("T")

_UNKNOWN_PATH: Final = (404, 405)


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """What a client's ledger accepted, against what a server applied; counted in requests, one or more an operation.

    ``missing`` were accepted and not applied, ``repeated`` applied more often than accepted, ``foreign`` applied and
    never accepted.
    """

    accepted: int
    applied: int
    missing: int
    repeated: int
    foreign: int
    in_order: bool

    @property
    def exact(self) -> bool:
        """True when each was applied exactly once, in order."""
        return self.in_order and not (self.missing or self.repeated or self.foreign)

    def __str__(self) -> str:
        text = f"{self.accepted} accepted, {self.applied} applied"
        wrong = [
            f"{count} {word}"
            for count, word in ((self.missing, "missing"), (self.repeated, "repeated"), (self.foreign, "foreign"))
            if count
        ]
        if not self.in_order and not wrong:
            wrong.append("in another order")
        return ", ".join([text, *wrong])


def compare(accepted: Iterable[AcceptedOperation], applied: Sequence[str]) -> Comparison:
    """Compare the digests of accepted operations, chunk by chunk, with those that the server applied, in its order.

    ``in_order`` is whether the two rows are equal, entry by entry.
    """
    expected = [digest for operation in accepted for digest in operation.digests]
    wanted, got = Counter(expected), Counter(applied)
    return Comparison(
        accepted=len(expected),
        applied=len(applied),
        missing=(wanted - got).total(),
        repeated=sum(count - wanted[digest] for digest, count in got.items() if 0 < wanted[digest] < count),
        foreign=sum(count for digest, count in got.items() if digest not in wanted),
        in_order=expected == list(applied),
    )


class _Applied(msgspec.Struct, frozen=True):
    digest: str


class _AppliedList(msgspec.Struct, frozen=True):
    applied: tuple[_Applied, ...]


class _Digest(msgspec.Struct, frozen=True):
    digest: str


@final
class ServerRecords:
    """What the local server tells of itself, over HTTP; a foreign server does not know these paths."""

    def __init__(self, transport: Transport, config: Config) -> None:
        self._api = Api(transport, config)

    async def applied(self, model_id: str) -> tuple[str, ...] | None:
        """The digests of the operations applied to a model, in order; None when the server can't tell."""
        found = await self._get(f"/local/applied/{model_id}", _AppliedList)
        return None if found is None else tuple(operation.digest for operation in found.applied)

    async def weights(self, model_id: str) -> str | None:
        """The digest of a model's weights as they are now; None when the server can't tell."""
        found = await self._get(f"/local/digest/{model_id}", _Digest)
        return None if found is None else found.digest

    async def _get(self, path: str, kind: type[T]) -> T | None:
        try:
            return await self._api.call(path, kind, method="GET", purpose="rest")
        except APIStatusError as error:
            if error.status in _UNKNOWN_PATH:
                return None
            raise
