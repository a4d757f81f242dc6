"""How far the demo is: a row in metrics.jsonl for each training step, and what the terminal shows of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final, final

import trio

from tinker_actors.cli.display import Display
from tinker_actors.cli.faults import short
from tinker_actors.cli.run_folder import MetricsRow, RunFolder
from tinker_actors.flow.pending import Pending

__all__ = ["Progress", "queue_state"]

_LINES: Final = 15  # about so many lines for a run where no line can be rewritten in place
_WINDOW: Final = 10  # steps that tokens/s is the mean of
_PATIENCE: Final = 5.0  # seconds without news after which a line says what is being waited for


@final
class Progress:
    """What is being done, and how far it is. Seconds are trio's."""

    def __init__(self, display: Display, folder: RunFolder, steps: int) -> None:
        self._display = display
        self._folder = folder
        self._steps = steps
        self._label = "start"
        self._count = self._total = 0
        self._began = self._heard = trio.current_time()
        self._recent: deque[tuple[float, int]] = deque([(self._began, 0)], maxlen=_WINDOW + 1)

    def begin(self, label: str, total: int = 0) -> None:
        """A chapter of ``total`` pieces of work begins, shown under ``label``."""
        self._label = label
        self._count, self._total = 0, total
        self._began = self._heard = trio.current_time()
        self._recent.clear()
        self._recent.append((self._began, 0))

    def advance(self) -> None:
        """One more piece is done."""
        self._count += 1
        self._heard = trio.current_time()

    def record(self, step: int, loss: float, rate: float, tokens: int, pending: Sequence[Pending]) -> None:
        """Training step ``step`` has its results: ``loss`` in nats per answer token, at learning rate ``rate``."""
        self.advance()
        now = trio.current_time()
        before = self._recent[-1][0]
        self._recent.append((now, tokens))
        self._folder.record(
            MetricsRow(
                step=step,
                loss=loss,
                learning_rate=rate,
                tokens=tokens,
                tokens_per_s=round(tokens / max(now - before, 1e-6), 1),
                time=round(now - self._began, 4),
            )
        )
        if self._display.live:
            self.refresh(pending)
        elif step in (1, self._steps) or step % max(1, self._steps // _LINES) == 0:
            self._display.line(self._label, self._step(pending))

    def refresh(self, pending: Sequence[Pending]) -> None:
        """Show what is being done now; without a live line only when nothing has been heard for a while."""
        if self._display.live:
            if len(self._recent) > 1:
                text = self._step(pending)
            else:
                done = f"{self._count}/{self._total}  " if self._total else ""
                text = f"{done}queue: {queue_state(pending)}"
            self._display.status(f"{self._label:<10}{text}")
        elif pending and trio.current_time() - self._heard >= _PATIENCE:
            self._heard = trio.current_time()
            self._display.line("waiting", queue_state(pending))

    def _step(self, pending: Sequence[Pending]) -> str:
        row = self._folder.rows[-1]
        first = self._recent[0][0]
        trained = sum(tokens for _, tokens in list(self._recent)[1:])
        speed = trained / max(self._recent[-1][0] - first, 1e-6)
        width = len(str(self._steps))
        return (
            f"{row.step:>{width}}/{self._steps}  loss {row.loss:6.4f}  {speed:7,.0f} tokens/s  "
            f"queue: {queue_state(pending)}"
        )


def queue_state(pending: Sequence[Pending]) -> str:
    """What is under way, in one line: the oldest with its state and reason, and how many are behind it."""
    if not pending:
        return "empty"
    oldest = pending[0]
    text = f"{short(oldest.name)} {oldest.kind} {oldest.state}"
    if oldest.reason:
        text += f" ({oldest.reason})"
    return text if len(pending) == 1 else f"{text}, {len(pending) - 1} behind"
