"""Lines on the terminal, with one at the bottom that is rewritten in place where that is possible."""

from __future__ import annotations

import logging
import os
import shutil
from typing import TextIO, final

__all__ = ["Display", "printable"]

_log = logging.getLogger("tinker_actors.cli")

_ERASE = "\r\x1b[2K"
_LABEL = 10


@final
class Display:
    """Writes to ``stream``. With ``live`` the status line is kept at the bottom, else it is never shown.

    Every line goes to the log, too. When the reader of the output leaves, as `head` does, only the log is left.
    """

    def __init__(self, stream: TextIO, *, live: bool) -> None:
        self.live = live
        self._stream = stream
        self._status = ""

    def line(self, label: str = "", text: str = "") -> None:
        """One line: a short label such as "restart", and what there is to say."""
        whole = f"{label:<{_LABEL}}{text}".rstrip()
        if whole:
            _log.info("%s", whole)
        self._write(f"{_ERASE}{whole}\n{self._status}" if self._status else whole + "\n")

    def block(self, text: str, indent: int = 2) -> None:
        """Several lines as they are, indented."""
        for line in text.splitlines():
            self.line(" " * indent + line)

    def status(self, text: str) -> None:
        """Show ``text`` at the bottom, in place of what was there; nothing happens without ``live``."""
        if not self.live:
            return
        width = shutil.get_terminal_size().columns - 1
        self._status = text if len(text) <= width else text[: max(0, width - 1)] + "…"
        self._write(_ERASE + self._status)

    def end_status(self) -> None:
        """Take the status line away."""
        if self._status:
            self._status = ""
            self._write(_ERASE)

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except BrokenPipeError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())  # so that neither the next line nor the last flush fails
            os.close(nowhere)


def printable(text: str) -> str:
    """``text`` with everything that could disturb a terminal as an escape sequence of Python's."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)
