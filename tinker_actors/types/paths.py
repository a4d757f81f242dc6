"""tinker:// paths: tinker://<training run>/<kind>/<name>."""

from __future__ import annotations

import re
from typing import Literal, TypeAlias

import msgspec

from tinker_actors.checks import text as _text
from tinker_actors.errors import InvalidInput
from tinker_actors.types.checkpoints import CheckpointType

__all__ = ["CheckpointKind", "TinkerPath", "checkpoint_name", "checkpoint_path"]

CheckpointKind: TypeAlias = Literal["weights", "sampler_weights", "external_weights"]
_KINDS: tuple[CheckpointKind, ...] = ("weights", "sampler_weights", "external_weights")
_TYPES: dict[CheckpointKind, CheckpointType] = {
    "weights": "training",
    "sampler_weights": "sampler",
    "external_weights": "external",
}
_PART = re.compile(r"[A-Za-z0-9_.:-]+\Z")
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,128}\Z")


class TinkerPath(msgspec.Struct, frozen=True):
    """A parsed checkpoint path. ``str(path)`` gives the text back."""

    run: str
    kind: CheckpointKind
    name: str

    @classmethod
    def parse(cls, text: str, *, kind: CheckpointKind | None = None, field: str = "path") -> TinkerPath:
        """Parse ``text``; with ``kind``, refuse a path of another one.

        The run id may contain colons, so this is split by hand and never parsed as a URL. Raises InvalidInput.
        """
        form = f"tinker://<run>/{kind or '<kind>'}/<name>"
        text = _text(field, text, f"Give one of the form {form}")
        if not text.startswith("tinker://"):
            raise InvalidInput(field, f"{text!r} is not a tinker path", f"Give one of the form {form}")
        parts = text.removeprefix("tinker://").split("/")
        if len(parts) != 3 or not all(parts) or parts[1] not in _KINDS:
            raise InvalidInput(field, f"{text!r} is not a checkpoint path", f"Give one of the form {form}")
        found: CheckpointKind = next(known for known in _KINDS if known == parts[1])
        if kind is not None and found != kind:
            raise InvalidInput(
                field,
                f"{text!r} names {found.replace('_', ' ')} where {kind.replace('_', ' ')} are due",
                "Use the path that save_state returned"
                if kind == "weights"
                else "Use the path that save_weights_for_sampler returned",
            )
        return cls(parts[0], found, parts[2])

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
    """``text`` if it can lead to a checkpoint of ``kind`` at some server, else InvalidInput.

    Besides the usual form some servers give their checkpoints paths like tinker://<run>/<name> and
    tinker://<run>/checkpoints/<name>; these are for the server to judge.
    """
    known = _text(field, text, f"Give one of the form tinker://<run>/{kind}/<name>")
    parts = known.removeprefix("tinker://").split("/")
    usual = len(parts) == 3 and parts[1] in _KINDS
    sound = all(_PART.match(part) and part not in (".", "..") for part in parts)
    if usual or not known.startswith("tinker://") or not sound or len(parts) not in (2, 3):
        TinkerPath.parse(known, kind=kind, field=field)
    return known


def checkpoint_name(text: str, *, field: str = "name") -> str:
    """``text`` if it can be a checkpoint's name, else InvalidInput."""
    text = _text(field, text, "Use 1 to 128 of A-Z a-z 0-9 _ . -")
    if not _NAME.match(text) or text in (".", ".."):
        raise InvalidInput(field, f"{text!r} can't name a checkpoint", "Use 1 to 128 of A-Z a-z 0-9 _ . -")
    return text
