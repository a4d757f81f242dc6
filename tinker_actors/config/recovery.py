"""RecoveryPolicy: when a model that its server has lost is rebuilt, and what is kept to do so."""

from __future__ import annotations

from typing import Any, cast

import msgspec

from tinker_actors.checks import integer
from tinker_actors.config.retry import seconds
from tinker_actors.errors import InvalidInput

__all__ = ["RecoveryPolicy", "parse_recovery"]

_CURE = "Give a RecoveryPolicy, or False for none"


class RecoveryPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """How a lost session, model or result is made good: by a new model, from the newest checkpoint of the client's
    own or as the first was created, to which what came after that is applied again.

    ``max_attempts`` bounds the rebuilds in a row between which no operation of the user's has finished; they are
    ``backoff_first`` seconds apart, then twice as long each, up to ``backoff_longest``. To apply them again, what has
    been done since the checkpoint before the newest is kept in memory: ``replay_bytes`` of requests for each model at
    most, then only since the newest, and then the oldest go. A model of which they are missing can't be rebuilt until
    its next ``save_state``. Raises InvalidInput for values that make no sense.
    """

    max_attempts: int = 5
    backoff_first: float = 1.0
    backoff_longest: float = 60.0
    replay_bytes: int = 1_000_000_000

    def __post_init__(self) -> None:
        keep = msgspec.structs.force_setattr
        for name in ("max_attempts", "replay_bytes"):
            keep(self, name, integer(f"recovery.{name}", getattr(self, name), "Give at least 1", low=1))
        for name in ("backoff_first", "backoff_longest"):
            keep(self, name, seconds(f"recovery.{name}", getattr(self, name)))
        if self.backoff_longest < self.backoff_first:
            problem = f"{self.backoff_longest} is less than backoff_first, {self.backoff_first}"
            raise InvalidInput("recovery.backoff_longest", problem, "Give at least the first")

    def delay(self, attempts: int) -> float:
        """Seconds before the rebuild that ``attempts`` others came before, without jitter; none before the first."""
        if attempts == 0:
            return 0.0
        return min(self.backoff_first * 2.0 ** min(attempts - 1, 60), self.backoff_longest)


def parse_recovery(field: str, given: Any) -> RecoveryPolicy | None:
    """A RecoveryPolicy, also from a mapping of its fields; True is the default one, False and None are none."""
    if given is None or given is False:
        return None
    if given is True:
        return RecoveryPolicy()
    if isinstance(given, RecoveryPolicy):
        return given
    if not isinstance(given, dict):
        raise InvalidInput(field, f"is of type {type(given).__name__}", _CURE)
    fields = cast("dict[str, Any]", given)
    for name in fields:
        if name not in RecoveryPolicy.__struct_fields__:
            raise InvalidInput(f"{field}.{name}", "is no field of a RecoveryPolicy", _CURE)
    return RecoveryPolicy(**fields)
