"""RetryConfig: how often and for how long a client tries again."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias, cast

import msgspec

from tinker_actors.checks import flag, integer, number
from tinker_actors.errors import InvalidInput

__all__ = ["Backoff", "PollBackoff", "RetryConfig", "parse_poll_backoff", "parse_retry", "seconds"]

Backoff: TypeAlias = "PollBackoff | Callable[[int], float]"
"""Seconds to wait before try n (0 for the first repeat)."""


class RetryConfig(msgspec.Struct, frozen=True, kw_only=True):
    """How a client tries again after an error that may pass (no connection, time out, 408, 429, 5xx).

    Try n is made after ``min(retry_delay_base * 2**n, retry_delay_max)`` seconds, made shorter by up to the share
    ``jitter_factor``; a Retry-After of the server's is a lower bound. When nothing of the client's has come through
    for ``progress_timeout`` seconds, whatever waits gets an error. ``max_retries`` bounds the repeats of one request
    (None: only time does). ``max_connections`` bounds the requests under way (None: only the server's limit does).

    ``enable_retry_logic=False`` gives every error to the caller at once. ``enable_stuck_detection=False`` turns the
    progress timeout off; then ``max_retries`` must bound the tries, for a request may not be tried for ever.
    ``retryable_exceptions`` are repeated by ``Retry`` besides. Raises InvalidInput for values that make no sense.
    """

    max_retries: int | None = None
    retry_delay_base: float = 0.5
    retry_delay_max: float = 10.0
    jitter_factor: float = 0.25
    progress_timeout: float = 7200.0
    max_connections: int | None = None
    enable_retry_logic: bool = True
    enable_stuck_detection: bool = True
    retryable_exceptions: tuple[type[Exception], ...] = ()

    def __post_init__(self) -> None:
        keep = msgspec.structs.force_setattr
        for name in ("retry_delay_base", "retry_delay_max", "progress_timeout"):
            keep(self, name, seconds(f"retry.{name}", getattr(self, name)))
        jitter = number("retry.jitter_factor", self.jitter_factor, "Give a share from 0 to 1")
        if not 0.0 <= jitter <= 1.0:
            raise InvalidInput("retry.jitter_factor", f"{jitter} is out of range", "Give a share from 0 to 1")
        keep(self, "jitter_factor", jitter)
        for name in ("enable_retry_logic", "enable_stuck_detection"):
            flag(f"retry.{name}", getattr(self, name))
        if self.max_connections is not None:
            cure = "Allow at least 1, or None for no bound"
            keep(self, "max_connections", integer("retry.max_connections", self.max_connections, cure, low=1))
        if self.max_retries is not None:
            cure = "Allow at least 1, None for no bound by number, or enable_retry_logic=False for no retries"
            keep(self, "max_retries", integer("retry.max_retries", self.max_retries, cure, low=1))
        self._check_exceptions()
        if self.retry_delay_max < self.retry_delay_base:
            problem = f"{self.retry_delay_max} is less than retry_delay_base, {self.retry_delay_base}"
            raise InvalidInput("retry.retry_delay_max", problem, "Give at least the base")
        if not self.enable_retry_logic:
            return
        if not self.enable_stuck_detection and self.max_retries is None:
            problem = "is off and max_retries is None: a request would be tried for ever"
            raise InvalidInput("retry.enable_stuck_detection", problem, "Leave it on, or give max_retries")
        if self.enable_stuck_detection and self.progress_timeout <= self.retry_delay_base:
            problem = f"{self.progress_timeout} s are over before the first retry, after {self.retry_delay_base} s"
            raise InvalidInput("retry.progress_timeout", problem, "Give more than retry_delay_base")

    def delay(self, failures: int) -> float:
        """Seconds before the repeat after ``failures`` earlier ones, without jitter."""
        return min(self.retry_delay_base * 2.0 ** min(failures, 60), self.retry_delay_max)

    def _check_exceptions(self) -> None:
        kinds = cast("Any", self.retryable_exceptions)
        if not isinstance(kinds, tuple) or not all(
            isinstance(kind, type) and issubclass(kind, Exception) for kind in cast("tuple[Any, ...]", kinds)
        ):
            raise InvalidInput("retry.retryable_exceptions", "is no tuple of exception types", "Give e.g. (OSError,)")


class PollBackoff(msgspec.Struct, frozen=True):
    """Waits between polls that double from ``first`` to ``longest`` seconds."""

    first: float = 1.0
    longest: float = 30.0

    def __call__(self, tries: int) -> float:
        return min(self.first * 2.0 ** min(tries, 60), self.longest)


def parse_poll_backoff(field: str, given: Any) -> Backoff | None:
    """None, a PollBackoff or a function of the user's.

    ``True`` and "exponential" mean 1 to 30 s, ("exponential", first, longest) others; ``None``, ``False``, 0 and
    "none" mean no other waits than those after errors.
    """
    cure = 'Give "exponential", ("exponential", first, longest) in seconds, a function of the try, or None'
    if given is None or isinstance(given, PollBackoff):
        return given
    if isinstance(given, str):
        given = {"": False, "0": False, "none": False, "false": False, "no": False, "off": False}.get(
            given.strip().lower(), given.strip().lower()
        )
        if given in ("1", "true", "yes", "on", "exponential"):
            given = True
    if given is True:
        return PollBackoff()
    if given is False or given == 0:
        return None
    if isinstance(given, tuple | list):
        parts = list(cast("list[Any]", given))
        given = None
        if len(parts) == 3 and parts[0] == "exponential":
            first, longest = seconds(field, parts[1]), seconds(field, parts[2])
            if longest >= first:
                return PollBackoff(first, longest)
            raise InvalidInput(field, f"the longest wait, {longest} s, is less than the first, {first} s", cure)
    if callable(given):
        return cast("Callable[[int], float]", given)
    raise InvalidInput(field, "is no way to wait", cure)


def parse_retry(field: str, given: Any) -> RetryConfig:
    """A RetryConfig, also from a mapping of its fields."""
    if isinstance(given, RetryConfig):
        return given
    cure = "Give a RetryConfig"
    if not isinstance(given, dict):
        raise InvalidInput(field, f"is of type {type(given).__name__}", cure)
    fields = cast("dict[str, Any]", given)
    for name in fields:
        if name not in RetryConfig.__struct_fields__:
            raise InvalidInput(f"{field}.{name}", "is no field of a RetryConfig", cure)
    return RetryConfig(**fields)


def seconds(field: str, value: object) -> float:
    """``value`` as a positive, finite number of seconds."""
    cure = "Give a number above 0"
    out = number(field, value, cure)
    if not (out > 0):
        raise InvalidInput(field, f"{out} is not a positive number of seconds", cure)
    if math.isinf(out):
        raise InvalidInput(field, "would never end", "Give a finite number of seconds")
    return out
