"""RecoveryPolicy: which losses are made good, from where, how often, and who is told."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from pathlib import PurePath
from typing import Any, Literal, TypeAlias, cast, get_args

import msgspec

from tinker_actors.checks import checkpoint_path, flag, integer, text
from tinker_actors.config.checkpoints import CheckpointPolicy, parse_checkpoints
from tinker_actors.config.retry import seconds
from tinker_actors.errors import InvalidInput

__all__ = ["TRIGGERS", "RecoveryPolicy", "Trigger", "parse_recovery"]

_CURE = "Give a RecoveryPolicy, or False for none"

Trigger: TypeAlias = Literal[
    "session_lost",
    "model_lost",
    "promise_lost",
    "operation_split",
    "run_corrupted",
    "lane_stopped",
    "client_degraded",
]
"""What may start a recovery: the server has ended the session; does not know the model any more; has lost a result;
took some chunks of an operation and refused others; says that the run is corrupted. A lane has stopped for another
reason; a client has crashed too often.
"""
TRIGGERS: tuple[Trigger, ...] = get_args(Trigger)
_IN_PLACE: tuple[Trigger, ...] = TRIGGERS[:5]


class RecoveryPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """How a lost session, model or result is made good: by a new model, from the newest checkpoint of the client's
    own or as the first was created, to which what came after that is applied again.

    ``unknown_outcome`` is what follows when nobody can tell whether the server has applied an operation, which only
    those of class "none" leave open: "restore" is another model, so that it is applied once, and nobody notices;
    "ask" ends what waits with an UnknownVerdict until ``restore()``, ``assume_applied()`` or ``abandon()`` of the
    training client is called; "assume_applied" and "abandon" do the same as those. An operation that the server says
    has failed by its own fault, or not whose, has failed ("fail"), or the model goes on as another one that has never
    met it ("rebuild"): ``server_failure``. ``billing_pause`` is for how many seconds a refusal for want of payment
    (402) is waited out, None as long as the server says.

    ``triggers`` are the losses that count; any other is an error. ``max_attempts`` bounds the rebuilds in a row
    between which no operation of the user's has finished; they are ``backoff_first`` seconds apart, then twice as
    long each, up to ``backoff_longest``. To apply them again, what has been done since the checkpoint before the
    newest is kept: for each model ``replay_bytes`` of requests in memory, what waits included, and beyond that
    ``spill_bytes`` in files below ``spill_folder`` (0: none; the folder is by default one of this user's alone for
    temporary files). What the files hold is removed with the runtime, and what dead processes have left with the
    next. When all that is full, only what was done since the newest checkpoint is kept, and when that is too much
    for it, no forward_backward is accepted until the next checkpoint is there (LedgerFull): ``when_full`` "forget"
    lets the oldest go instead, and such a model can't be rebuilt until its next ``save_state``. ``checkpoints``
    says when a client saves its state by itself, by default when half of ``replay_bytes`` is used (None: never).

    What can't go on in its own client, as with ``replay=False``, or a client that has ended, and a run of another
    program that ``runtime.recovery`` watches, is recovered into a new client: from ``checkpoint``, which is "latest",
    "best" or a tinker path, with the optimizer's state unless ``restore_optimizer`` is False, in up to
    ``max_attempts`` attempts, for ``max_concurrent`` runs at a time. "best" is the one whose ``best_metric`` is
    ``best``, "lowest" or "highest". Every ``poll_interval`` seconds the server is asked whether a run is
    corrupted.

    ``on_recovery(old, new, checkpoint)`` is called with both training clients (the same where one goes on) and the
    tinker path (None: as it was created), ``on_failure(run_id, reason)`` when a recovery is given up; an async
    function on the loop, a plain one in a thread. Raises InvalidInput for values that make no sense.
    """

    triggers: Collection[Trigger] = _IN_PLACE
    replay: bool = True
    checkpoint: str = "latest"
    best_metric: str | None = None
    best: Literal["lowest", "highest"] = "lowest"
    restore_optimizer: bool = True
    unknown_outcome: Literal["restore", "ask", "assume_applied", "abandon"] = "restore"
    server_failure: Literal["fail", "rebuild"] = "fail"
    billing_pause: float | None = None
    max_attempts: int = 5
    backoff_first: float = 1.0
    backoff_longest: float = 60.0
    max_concurrent: int = 1
    poll_interval: float = 30.0
    replay_bytes: int = 1_000_000_000
    checkpoints: CheckpointPolicy | None = CheckpointPolicy()
    spill_bytes: int = 10_000_000_000
    spill_folder: str | None = None
    when_full: Literal["refuse", "forget"] = "refuse"
    on_recovery: Callable[[Any, Any, str | None], object] | None = None
    on_failure: Callable[[str, str], object] | None = None

    def __post_init__(self) -> None:
        keep = msgspec.structs.force_setattr
        for name in ("max_attempts", "max_concurrent", "replay_bytes"):
            keep(self, name, integer(f"recovery.{name}", getattr(self, name), "Give at least 1", low=1))
        for name in ("backoff_first", "backoff_longest", "poll_interval"):
            keep(self, name, seconds(f"recovery.{name}", getattr(self, name)))
        keep(self, "spill_bytes", integer("recovery.spill_bytes", self.spill_bytes, "Give 0 or more", low=0))
        if self.spill_folder is not None:
            folder: Any = self.spill_folder
            folder = str(folder) if isinstance(folder, PurePath) else folder
            keep(self, "spill_folder", text("recovery.spill_folder", folder, "Give the path of a folder, or None"))
        if self.when_full not in ("refuse", "forget"):
            problem = f"{self.when_full!r} is neither"
            raise InvalidInput("recovery.when_full", problem, 'Give "refuse" or "forget"')
        for name in ("replay", "restore_optimizer"):
            flag(f"recovery.{name}", getattr(self, name))
        keep(self, "checkpoints", parse_checkpoints("recovery.checkpoints", self.checkpoints))
        if self.backoff_longest < self.backoff_first:
            problem = f"{self.backoff_longest} is less than backoff_first, {self.backoff_first}"
            raise InvalidInput("recovery.backoff_longest", problem, "Give at least the first")
        keep(self, "triggers", _triggers(self.triggers))
        self._check_checkpoint()
        _check_choice("recovery.server_failure", self.server_failure, ("fail", "rebuild"))
        if self.billing_pause is not None:
            keep(self, "billing_pause", seconds("recovery.billing_pause", self.billing_pause))
        _check_choice(
            "recovery.unknown_outcome", self.unknown_outcome, ("restore", "ask", "assume_applied", "abandon")
        )
        for name, arguments in (("on_recovery", 3), ("on_failure", 2)):
            _check_callback(f"recovery.{name}", getattr(self, name), arguments)

    def _check_checkpoint(self) -> None:
        cure = 'Give "latest", "best", or a path of the form tinker://<run>/weights/<name>'
        checkpoint = text("recovery.checkpoint", self.checkpoint, cure)
        if checkpoint not in ("latest", "best") and not checkpoint.startswith("tinker://"):
            raise InvalidInput("recovery.checkpoint", f"{checkpoint!r} is none of these", cure)
        if checkpoint.startswith("tinker://"):
            checkpoint_path("recovery.checkpoint", checkpoint, kind="weights")
        if self.best not in ("lowest", "highest"):
            raise InvalidInput("recovery.best", f"{self.best!r} is neither", 'Give "lowest" or "highest"')
        if self.best_metric is not None:
            text("recovery.best_metric", self.best_metric, 'Give its name, such as "loss:sum"')
        elif checkpoint == "best":
            cure = 'Name what tells which is best, such as "loss:sum"'
            raise InvalidInput("recovery.best_metric", 'is missing, and checkpoint is "best"', cure)

    def covers(self, trigger: str | None) -> bool:
        """Whether what was lost by ``trigger`` is made good at all; None is what a recovery has come to itself."""
        return trigger is None or trigger in self.triggers

    def rebuilds(self, trigger: str | None) -> bool:
        """Whether what was lost by ``trigger`` goes on in its own client."""
        return self.replay and self.covers(trigger) and (trigger is None or trigger in _IN_PLACE)

    def delay(self, attempts: int) -> float:
        """Seconds before the attempt that ``attempts`` others came before, without jitter; none before the first."""
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
    if not isinstance(given, Mapping):
        raise InvalidInput(field, f"is of type {type(given).__name__}", _CURE)
    fields = cast("Mapping[str, Any]", given)
    for name in fields:
        if name not in RecoveryPolicy.__struct_fields__:
            raise InvalidInput(f"{field}.{name}", "is no field of a RecoveryPolicy", _CURE)
    return RecoveryPolicy(**fields)


def _check_choice(field: str, value: Any, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise InvalidInput(field, f"{value!r:.60} is none of them", f"Give one of {', '.join(choices)}")


def _triggers(given: Any) -> tuple[Trigger, ...]:
    cure = f"Give some of {', '.join(TRIGGERS)}"
    if isinstance(given, str) or not isinstance(given, Collection):
        raise InvalidInput("recovery.triggers", f"is of type {type(given).__name__}", cure)
    for trigger in cast("Collection[Any]", given):
        if trigger not in TRIGGERS:
            raise InvalidInput("recovery.triggers", f"{trigger!r} is no trigger", cure)
    return tuple([trigger for trigger in TRIGGERS if trigger in given])


def _check_callback(field: str, callback: Any, arguments: int) -> None:
    if callback is None:
        return
    cure = f"Give a function of {arguments} arguments, or None"
    if not callable(callback):
        raise InvalidInput(field, f"is of type {type(callback).__name__}", cure)
    try:
        signature = inspect.signature(callback)
    except ValueError:
        return  # some builtins don't say what they take
    try:
        signature.bind(*range(arguments))
    except TypeError:
        raise InvalidInput(field, f"takes {signature}, which is not {arguments} arguments", cure) from None
