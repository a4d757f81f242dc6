"""Rebuild: a lost model on its way back, as far as it has come. It outlives the actor that works at it."""

from __future__ import annotations

import msgspec

from tinker_actors.flow.pending import PendingEntry
from tinker_actors.ledger.history import Cover

__all__ = ["NewModel", "Rebuild"]


class NewModel(msgspec.Struct, frozen=True, kw_only=True):
    """The model that is to take the place of the lost one: its numbers and keys are the same in every try."""

    seq_id: int
    key: str
    load_key: str
    generation: int
    """Of the session that it is made in."""


class Rebuild(msgspec.Struct, kw_only=True):
    """Why the model was lost, and what has been decided since. ``attempt`` counts from 0 those in a row."""

    cause: str
    attempt: int
    entry: PendingEntry
    model: NewModel | None = None
    cover: Cover | None = None
    refused: set[Cover] = msgspec.field(default_factory=set[Cover])
    """States that could not be loaded."""
    loading: bool = False
    """Whether the new model may have been sent its state."""
    resumed: bool = False
    """Whether the new model is there, and takes the operations."""
    failures: int = 0
    """New models that were lost, too, or could not be had."""
    replays: int = 0
    """How many operations are to be applied again; 0 until that is known."""

    def anew(self) -> None:
        """The new model is lost, too, or spoilt: make another."""
        self.model = None
        self.cover = None
        self.loading = False

    def explain(self, reason: str) -> None:
        """Say how far it is."""
        self.entry.explain(reason)
