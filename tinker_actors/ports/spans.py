"""The Spans port: how long operations are in each of their phases, for whoever draws traces."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Final, Protocol, final

__all__ = ["NO_SPAN", "NO_SPANS", "NoSpans", "Span", "Spans"]


class Span(Protocol):
    """One operation, from its acceptance to its end; its phases follow one another."""

    def enter(self, phase: str) -> None:
        """The phase before ends, and ``phase`` begins: "queue", "send", "poll"."""
        ...

    def current(self) -> AbstractContextManager[object]:
        """Within the block, requests of this task, and of tasks that it starts, belong to the present phase."""
        ...

    def step(self, name: str) -> AbstractContextManager[object]:
        """A part of the operation that is as long as the block: "decode"."""
        ...

    def end(self, error: BaseException | None = None) -> None:
        """The operation has its result, or ends with ``error``. Further calls do nothing."""
        ...


class Spans(Protocol):
    """Begins a span for each operation."""

    def begin(self, name: str, attributes: Mapping[str, str]) -> Span:
        """The span of one operation, below whatever span is current where it is begun."""
        ...


@final
class _NoSpan:
    def enter(self, phase: str) -> None:
        pass

    def current(self) -> AbstractContextManager[object]:
        return _NOTHING

    def step(self, name: str) -> AbstractContextManager[object]:
        return _NOTHING

    def end(self, error: BaseException | None = None) -> None:
        pass


_NOTHING: Final[AbstractContextManager[object]] = nullcontext()
NO_SPAN: Final[Span] = _NoSpan()


@final
class NoSpans:
    """Nobody draws traces."""

    def begin(self, name: str, attributes: Mapping[str, str]) -> Span:
        """A span that is none."""
        return NO_SPAN


NO_SPANS: Final[Spans] = NoSpans()
