"""CheckpointPolicy: when a model's state is saved by itself, under which names, and how many of these are kept."""

from __future__ import annotations

import re
from typing import Any, Literal, cast

import msgspec

from tinker_actors.checks import integer, number, text
from tinker_actors.config.retry import seconds
from tinker_actors.errors import InvalidInput

__all__ = ["CheckpointPolicy", "parse_checkpoints"]

_CURE = "Give a CheckpointPolicy, or False for none"
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")
_LONGEST_TTL = 100 * 365 * 24 * 3600  # seconds: what servers can add to a date


class CheckpointPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """When a training client saves its state by itself, and what becomes of these checkpoints.

    A save is due after ``every_steps`` optim_steps, ``every_seconds`` of trio's clock or ``every_bytes`` of data
    trained on, counted from the save before; and, so that a rebuild stays possible, when the data since the last
    checkpoint has reached ``replay_share`` of what may be kept for it (``RecoveryPolicy.replay_bytes``). It is
    accepted with the optim_step that makes it due, in the same step, and needs no room of ``max_pending``. Its name
    begins with ``name``.

    Of these checkpoints the last ``keep_last`` are kept (None: all), and the ``keep_best`` of which ``best_metric``
    is ``best_is``, "lowest" or "highest". The others are deleted, unless they are pinned. With ``ttl_seconds`` they
    expire by themselves that long after the client was closed or has died: while it lives that is put off.

    Raises InvalidInput for values that make no sense.
    """

    every_steps: int | None = None
    every_seconds: float | None = None
    every_bytes: int | None = None
    replay_share: float | None = 0.5
    name: str = "auto"
    ttl_seconds: int | None = None
    keep_last: int | None = 2
    keep_best: int = 0
    best_metric: str | None = None
    best_is: Literal["lowest", "highest"] = "lowest"

    def __post_init__(self) -> None:
        keep = msgspec.structs.force_setattr
        for field in ("every_steps", "every_bytes", "keep_last"):
            if (given := getattr(self, field)) is not None:
                keep(self, field, integer(f"checkpoints.{field}", given, "Give at least 1, or None", low=1))
        if self.every_seconds is not None:
            keep(self, "every_seconds", seconds("checkpoints.every_seconds", self.every_seconds))
        if self.replay_share is not None:
            cure = "Give a share above 0 and up to 1, or None"
            share = number("checkpoints.replay_share", self.replay_share, cure)
            if not 0.0 < share <= 1.0:
                raise InvalidInput("checkpoints.replay_share", f"{share} is no share", cure)
            keep(self, "replay_share", share)
        if not _NAME.match(text("checkpoints.name", self.name, "Give the beginning of the checkpoints' names")):
            cure = "Use up to 64 letters, digits, _ and -"
            raise InvalidInput("checkpoints.name", f"{self.name!r} can't begin a checkpoint's name", cure)
        if self.ttl_seconds is not None:
            cure = "Give whole seconds, or None to keep them"
            ttl = integer("checkpoints.ttl_seconds", self.ttl_seconds, cure, low=1, high=_LONGEST_TTL)
            keep(self, "ttl_seconds", ttl)
        keep(self, "keep_best", integer("checkpoints.keep_best", self.keep_best, "Give 0 or more", low=0))
        if self.best_metric is not None:
            text("checkpoints.best_metric", self.best_metric, "Give the name of a metric")
        if self.best_is not in ("lowest", "highest"):
            raise InvalidInput("checkpoints.best_is", f"{self.best_is!r} is neither", "Give lowest or highest")
        if self.keep_best and self.best_metric is None:
            problem = f"is {self.keep_best}, and there is no best_metric"
            raise InvalidInput("checkpoints.keep_best", problem, "Say by which metric the best are known")


def parse_checkpoints(field: str, given: Any) -> CheckpointPolicy | None:
    """A CheckpointPolicy, also from a mapping of its fields; True is the default one, False and None are none."""
    if given is None or given is False:
        return None
    if given is True:
        return CheckpointPolicy()
    if isinstance(given, CheckpointPolicy):
        return given
    if not isinstance(given, dict):
        raise InvalidInput(field, f"is of type {type(given).__name__}", _CURE)
    fields = cast("dict[str, Any]", given)
    for name in fields:
        if name not in CheckpointPolicy.__struct_fields__:
            raise InvalidInput(f"{field}.{name}", "is no field of a CheckpointPolicy", _CURE)
    return CheckpointPolicy(**fields)
