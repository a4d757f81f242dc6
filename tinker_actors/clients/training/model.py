"""The Model: what a training client's incarnations share."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import final

from supervision import StopReason
from tinker_actors.errors import ClosedError, LaneStopped, TinkerError
from tinker_actors.flow.queue_state import ClientQueue
from tinker_actors.ledger import Ledger, OperationState
from tinker_actors.types import GetInfoResponse, LoraConfig

__all__ = ["Model"]

_log = logging.getLogger("tinker_actors.clients")
_NAMED = 3  # operations


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
        ledgers: set[Ledger],
    ) -> None:
        self.seq_id = seq_id
        self.base_model = base_model
        self.lora = lora
        self.user_metadata = user_metadata
        self.key = key
        self.ledger = ledger
        self.ledgers = ledgers
        self.info: GetInfoResponse | None = None
        self.queue = ClientQueue(ledger.name, "training")

    def close(self, reason: StopReason) -> None:
        """The client's place has closed, by a stop or by too many crashes: nothing waits for nobody."""
        self.queue.close()
        ledger = self.ledger
        if reason.crash is not None:
            error: TinkerError = LaneStopped(
                f"the client of {ledger.name} crashed too often and was given up. The last crash: {reason.crash}"
            )
            ledger.stop(error, state=OperationState.VERDICT)
        else:
            if abandoned := ledger.unfinished():
                # their Futures say so, too, but a program that forgot to await them looks at none
                names = ", ".join(f"{operation.kind} {operation.name}" for operation in abandoned[:_NAMED])
                more = f" and {len(abandoned) - _NAMED} more" if len(abandoned) > _NAMED else ""
                _log.warning(
                    "%s was closed before these had a result: %s%s. Await their Futures first",
                    ledger.name,
                    names,
                    more,
                )
            closed = f"the client of {ledger.name} was closed; what had no result by then is abandoned"
            ledger.stop(ClosedError(closed))
        self.ledgers.discard(ledger)
