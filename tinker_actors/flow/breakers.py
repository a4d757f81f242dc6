"""CircuitBreakers: breakers by name, made when they are first asked for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar, final

from tinker_actors.checks import integer, text
from tinker_actors.flow.breaker import BreakerState, BreakerStatistics, CircuitBreaker

__all__ = ["CircuitBreakers"]

T = TypeVar("T")

_MOST = 1024


@final
class CircuitBreakers:
    """A table of breakers that share their settings (those of CircuitBreaker), of at most ``most`` names.

    A name that is closed and without failures need not be kept: the one unused for longest makes room for a new one.
    Raises InvalidInput for settings that a breaker refuses.
    """

    def __init__(
        self,
        *,
        failure_threshold: int = 5,
        reset_timeout: float = 30.0,
        half_open_max_calls: int = 1,
        most: int = _MOST,
    ) -> None:
        def make() -> CircuitBreaker:
            return CircuitBreaker(
                failure_threshold=failure_threshold,
                reset_timeout=reset_timeout,
                half_open_max_calls=half_open_max_calls,
            )

        make()  # what is wrong with the settings is said here and not at the first call
        self._make = make
        self._most = integer("most", most, "Keep at least one", low=1)
        self._by_name: dict[str, CircuitBreaker] = {}

    async def call(
        self, name: str, function: Callable[[], Awaitable[T]], success: Callable[[T], bool] | None = None
    ) -> T:
        """What ``function`` returns, under the breaker ``name``; as CircuitBreaker.call."""
        return await self.breaker(name).call(function, success)

    def breaker(self, name: str) -> CircuitBreaker:
        """That of ``name``."""
        name = text("name", name, "Name what is called")
        breaker = self._by_name.pop(name, None)
        if breaker is None:
            breaker = self._make()
            self._make_room()
        self._by_name[name] = breaker  # the last in the dict is the one used last
        return breaker

    def state(self, name: str) -> BreakerState:
        """That of ``name``; a name that nobody has used is closed."""
        breaker = self._by_name.get(name)
        return BreakerState.CLOSED if breaker is None else breaker.state

    def reset(self, name: str) -> None:
        """Close the circuit ``name``; an unknown name is closed already."""
        if (breaker := self._by_name.get(name)) is not None:
            breaker.reset()

    def delete(self, name: str) -> None:
        """Forget ``name``; an unknown one is forgotten already."""
        self._by_name.pop(name, None)

    def statistics(self) -> dict[str, BreakerStatistics]:
        """Every breaker by name, the one used last at the end."""
        return {name: breaker.statistics() for name, breaker in self._by_name.items()}

    def _make_room(self) -> None:
        if len(self._by_name) < self._most:
            return
        # A healthy one is the same as none; only where all are troubled does one lose what it knows.
        idle = (name for name, breaker in self._by_name.items() if breaker.untroubled)
        self.delete(next(idle, next(iter(self._by_name))))
