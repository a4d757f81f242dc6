"""Group strategies: children that have broken are mended together with those that depend on them, in one batch."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, final

import trio
from trio.lowlevel import enable_ki_protection

from supervision.handshake import Handshake

if TYPE_CHECKING:
    from supervision.actor_place import ActorPlace
    from supervision.supervisor import SupervisorPlace

__all__: list[str] = []


@final
class Group:
    """What a supervisor with rest_for_one or one_for_all has to mend."""

    __slots__ = ("broken", "mending", "not_before", "supervisor")

    def __init__(self, supervisor: SupervisorPlace) -> None:
        self.supervisor = supervisor
        self.broken: set[ActorPlace | SupervisorPlace] = set()
        self.not_before = 0.0
        self.mending = False

    def add(self, place: ActorPlace | SupervisorPlace, not_before: float) -> None:
        """One more has broken; the batch starts again no earlier than `not_before`."""
        self.broken.add(place)
        self.not_before = max(self.not_before, not_before)
        self.mend_soon()

    def mend_soon(self) -> None:
        if not self.mending and self.supervisor.op_scope is None:
            self.mending = True
            self.supervisor.system.spawn(self._mend, name=f"{self.supervisor.path}/mend")

    def forget(self) -> None:
        """Nothing is mended any more: the supervisor goes down."""
        self.broken.clear()
        self.mending = False

    def takes_along(self, place: ActorPlace | SupervisorPlace) -> bool:
        """Whether a child that lives is about to be stopped, to be mended with the others."""
        return bool(self.broken) and place in self._affected()

    def _affected(self) -> list[ActorPlace | SupervisorPlace]:
        """In start order: what is restarted together with the broken ones. What is down already belongs to it, too:
        the one it went down for may have been stopped meanwhile.
        """
        children = self.supervisor.children.values()
        living = [place for place in children if place.closed is None and not place.opening]
        if self.supervisor.strategy == "rest_for_one":
            while living and living[0] not in self.broken and living[0].state != "down":
                living.pop(0)
        return living

    @enable_ki_protection
    async def _mend(self) -> None:
        # Going down takes op_scope away; a wait that ended in the same step sees no Cancelled, so each is checked.
        supervisor = self.supervisor
        with trio.CancelScope(shield=True) as scope:
            supervisor.op_scope = scope
            mended = not self.broken
            while not mended:
                affected = self._affected()
                for place in reversed(affected):
                    if place.state != "down":
                        place.request_stop("shutdown", math.inf, restarting=True)
                        await place.wait_down()
                        if supervisor.op_scope is not scope:
                            return
                await trio.sleep_until(self.not_before)
                if supervisor.op_scope is not scope:
                    return
                if supervisor.system.now() < self.not_before or any(p.state != "down" for p in self._affected()):
                    continue  # another sibling has crashed, or come, meanwhile: one batch
                affected = self._affected()
                self.broken.clear()
                mended = True
                for place in affected:
                    if place.state != "down":
                        continue
                    handshake = Handshake(None, kills=False)
                    place.begin(handshake)
                    await handshake.wait()
                    if supervisor.op_scope is not scope:
                        return
                    if self.broken:
                        mended = False
                        break
        if supervisor.op_scope is scope:
            supervisor.op_scope = None
            self.mending = False
