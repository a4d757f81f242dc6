"""tinker:// paths: tinker://<training run>/<kind>/<name>."""

from __future__ import annotations

import re

import msgspec

from tinker_actors.checks import CheckpointKind, checkpoint_parts
from tinker_actors.checks import checkpoint_path as _checkpoint_path
from tinker_actors.checks import text as _text
from tinker_actors.errors import InvalidInput
from tinker_actors.types.checkpoints import CheckpointType

__all__ = ["CheckpointKind", "TinkerPath", "checkpoint_name", "checkpoint_path"]

_TYPES: dict[CheckpointKind, CheckpointType] = {
    "weights": "training",
    "sampler_weights": "sampler",
    "external_weights": "external",
}
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,128}\Z")


class TinkerPath(msgspec.Struct, frozen=True):
    """A parsed checkpoint path. ``str(path)`` gives the text back."""

    run: str
    kind: CheckpointKind
    name: str

    @classmethod
    def parse(cls, text: str, *, kind: CheckpointKind | None = None, field: str = "path") -> TinkerPath:
        """Parse ``text``; with ``kind``, refuse a path of another one. Raises InvalidInput."""
        return cls(*checkpoint_parts(field, text, kind=kind))

    @property
    def checkpoint_id(self) -> str:
        """What names the checkpoint within its run: <kind>/<name>."""
        return f"{self.kind}/{self.name}"

    @property
    def checkpoint_type(self) -> CheckpointType:
        """What listings call the kind."""
        return _TYPES[self.kind]

    def __str__(self) -> str:
        return f"tinker://{self.run}/{self.kind}/{self.name}"


def checkpoint_path(text: str, *, kind: CheckpointKind, field: str = "path") -> str:
    """``text`` if it can lead to a checkpoint of ``kind`` at some server, else InvalidInput."""
    return _checkpoint_path(field, text, kind=kind)


def checkpoint_name(text: str, *, field: str = "name") -> str:
    """``text`` if it can be a checkpoint's name, else InvalidInput."""
    text = _text(field, text, "Use 1 to 128 of A-Z a-z 0-9 _ . -")
    if not _NAME.match(text) or text in (".", ".."):
        raise InvalidInput(field, f"{text!r} can't name a checkpoint", "Use 1 to 128 of A-Z a-z 0-9 _ . -")
    return text
