"""The Model: what a training client's incarnations share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import final

from tinker_actors.ledger import Ledger
from tinker_actors.types import GetInfoResponse, LoraConfig

__all__ = ["Model"]


@final
class Model:
    """A plain object on the training client's place: how the model was created, and its ledger."""

    def __init__(
        self,
        *,
        seq_id: int,
        base_model: str,
        lora: LoraConfig,
        user_metadata: Mapping[str, str],
        key: str,
        ledger: Ledger,
    ) -> None:
        self.seq_id = seq_id
        self.base_model = base_model
        self.lora = lora
        self.user_metadata = user_metadata
        self.key = key
        self.ledger = ledger
        self.info: GetInfoResponse | None = None
