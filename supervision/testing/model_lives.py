"""The lives of the sequential model: how places start, end, are judged, mended and stopped."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from supervision.spec import ChildSpec, SupervisorSpec
from supervision.testing.model_places import AGAIN, UP, ActorModel, PlaceModel, SupervisorModel, TimerModel, Verdict
from supervision.testing.operations import Step

__all__: list[str] = []


class Lives:
    """What happens of itself, in a moment or at its time."""

    def __init__(self, root: SupervisorSpec) -> None:
        self.root = SupervisorModel(None, root)
        self.now = 0.0
        self.trace: list[Step] = []
        self.failed = False
        """The root has given up: open_system() raises IntensityExceeded."""
        self.finished_by: str | None = None
        """The significant child that has ended the system."""
        self.failing: set[str] = set()
        self.overtaken: set[str] = set()
        """Supervisors whose own restart went on while a child of theirs had failed and came again: in which order it
        and those after it are up is nobody's promise.
        """
        """Where the next init() raises."""
        self._soon: deque[Callable[[], None]] = deque()
        self._timers: list[TimerModel] = []

    @property
    def over(self) -> bool:
        """The root has ended, and the system with it."""
        return self.root.closed

    # ---- time, and what happens in a moment

    def let_pass(self, seconds: float) -> None:
        until = self.now + seconds
        while not self.over:
            due = min((timer for timer in self._timers if timer.action), key=lambda timer: timer.due, default=None)
            if due is None or due.due > until:
                break
            self.now = max(self.now, due.due)
            self._timers.remove(due)
            if due.action is not None:
                due.action()
            self.work_off()
        self._timers = [timer for timer in self._timers if timer.action]
        self.now = until

    def _at(self, due: float, action: Callable[[], None]) -> TimerModel:
        timer = TimerModel(due, action)
        self._timers.append(timer)
        return timer

    def work_off(self) -> None:
        while self._soon:
            self._soon.popleft()()

    def _emit(self, kind: str, place: PlaceModel, detail: str = "", *, number: int = 0, again: bool = False) -> None:
        self.trace.append(Step(kind, place.path, number, detail, again))

    # ---- starts

    def open(self, place: ActorModel | SupervisorModel) -> bool:
        """A start that someone waits for; False if it failed, and nothing is left then."""
        place.number += 1
        if isinstance(place, ActorModel):
            if self._init_fails(place):
                self._emit("crashed", place, number=place.number)
                self._emit("ended", place, "crash", number=place.number)
                self._close(place, "stopped", "crash")
                return False
            self._came_up(place)
            return True
        place.anew = False
        for spec in place.specs:
            if not self.open(place.add(spec)):
                self._go_down(place, "close")
                self._take_down(place, place.life)
                return False
        place.opening = False
        self._enter_running(place)
        self._emit("started", place, number=place.number)
        return True

    def begin(self, place: ActorModel | SupervisorModel) -> None:
        """The next incarnation, on a supervisor's word."""
        place.timer = None
        if isinstance(place, ActorModel):
            place.number += 1
            place.state = "starting"
            if self._init_fails(place):
                self.end_by_itself(place, crashed=True)
            else:
                self._came_up(place)
            return
        if place.anew:
            self._renew(place)
        place.number += 1
        place.verdict = None
        place.restarting = False
        place.restarts.clear()
        self._enter_running(place)
        place.busy = True
        life = place.life
        for child in tuple(place.children.values()):
            if child.state == "down":
                number = child.number + 1
                self.begin(child)
                self.work_off()
                if child.number != number:
                    self.overtaken.add(place.path)
                if place.life != life:
                    return
                if place.broken:
                    break
        place.busy = False
        self._emit("started" if place.number == 1 else "restarted", place, number=place.number)
        if place.broken:
            self._mend_soon(place)

    def _init_fails(self, actor: ActorModel) -> bool:
        fails = actor.path in self.failing
        self.failing.discard(actor.path)
        return fails

    def _came_up(self, actor: ActorModel) -> None:
        actor.opening = False
        self._enter_running(actor)
        self._emit("started" if actor.number == 1 else "restarted", actor, number=actor.number)

    def _enter_running(self, place: PlaceModel) -> None:
        place.state = "running"
        place.since = self.now

    def reopen(self, place: ActorModel | SupervisorModel) -> None:
        """A closed place, or one that is restarted by hand, forgets its past."""
        place.closed = False
        place.attempt = 0
        place.restarts.clear()
        place.state = "starting"
        if isinstance(place, SupervisorModel):
            place.children.clear()
            place.anew = True

    def _renew(self, supervisor: SupervisorModel) -> None:
        """All children of the spec, whatever became of them; those added at run time come after them."""
        supervisor.anew = False
        before = dict(supervisor.children)
        supervisor.children.clear()
        for spec in supervisor.specs:
            place = before.pop(spec.name, None)
            if place is None:
                place = supervisor.add(spec)
                place.opening = False
                place.state = "down"
            elif place.closed:
                self.reopen(place)
                place.state = "down"
            supervisor.children[spec.name] = place
        supervisor.children.update(before)

    # ---- ends of their own

    def end_by_itself(self, actor: ActorModel, *, crashed: bool) -> None:
        """It crashes, or ends by its own will."""
        reason = "crash" if crashed else "normal"
        if crashed:
            self._emit("crashed", actor, number=actor.number)
        assert actor.parent is not None
        verdict = self._judge(actor.parent, actor, crashed=crashed)
        actor.state = "stopping"
        self._emit("ended", actor, reason, number=actor.number, again=verdict in AGAIN)
        self._settle(actor, verdict, reason)

    def _settle(self, place: ActorModel | SupervisorModel, verdict: Verdict, reason: str) -> None:
        """It has ended; see what becomes of it."""
        if verdict == "restart":
            self._schedule_restart(place)
        elif verdict == "held":
            place.state = "down"
        else:
            self._close(place, "degraded" if verdict == "degrade" else "stopped", reason)
            if verdict == "done" and place.parent is not None:
                self._significant_ended(place.parent, place)

    def _schedule_restart(self, place: ActorModel | SupervisorModel) -> None:
        if place.parent is not None and place.parent.state not in UP:
            place.state = "down"
            return
        place.state = "waiting"
        self._emit("restarting", place, number=place.number + 1)
        if place.delay <= 0:
            self._soon.append(lambda: self.begin(place))
        else:
            place.timer = self._at(self.now + place.delay, lambda: self.begin(place))

    def _close(self, place: ActorModel | SupervisorModel, state: str, reason: str) -> None:
        """Its children first; then, in its supervisor's list, it is kept or forgotten."""
        if isinstance(place, SupervisorModel):
            for child in reversed(tuple(place.children.values())):
                self.stop(child, restarting=False)
        place.cancel_timer()
        place.state = state
        place.closed = True
        if state == "degraded":
            self._emit("degraded", place)
        self._emit("closed", place, reason)
        parent = place.parent
        if parent is None:
            return
        parent.broken.discard(place)
        forgotten = parent.dynamic or place.spec.restart == "temporary" or place.opening
        if forgotten and state != "degraded" and parent.children.get(place.spec.name) is place:
            del parent.children[place.spec.name]

    # ---- judging

    def _judge(self, supervisor: SupervisorModel, place: ActorModel | SupervisorModel, *, crashed: bool) -> Verdict:
        spec = place.spec
        if spec.restart == "temporary" or (spec.restart == "transient" and not crashed):
            return "done" if spec.significant else "close"
        if supervisor.state not in UP:
            return "held" if supervisor.restarting else "close"
        if isinstance(spec, ChildSpec) and spec.max_restarts is not None and spec.max_seconds is not None:
            if self._exceeded(place, spec.max_restarts, spec.max_seconds):
                return "degrade"
        elif self._exceeded(supervisor, supervisor.spec.max_restarts, supervisor.spec.max_seconds):
            return self._give_up(supervisor, place)
        if place.state == "running" and self.now - place.since >= spec.backoff.reset_after:
            place.attempt = 0
        place.attempt += 1
        place.delay = min(spec.backoff.maximum, spec.backoff.initial * spec.backoff.factor ** (place.attempt - 1))
        if supervisor.strategy == "one_for_one":
            return "restart"
        supervisor.broken.add(place)
        supervisor.not_before = max(supervisor.not_before, self.now + place.delay)
        self._mend_soon(supervisor)
        return "held"

    def _exceeded(self, window_of: PlaceModel, limit: int, seconds: float) -> bool:
        """One restart more: more than `limit` within `seconds`, both ends included?"""
        window_of.restarts = [at for at in window_of.restarts if self.now - at <= seconds] + [self.now]
        return len(window_of.restarts) > limit

    def _give_up(self, supervisor: SupervisorModel, place: PlaceModel) -> Verdict:
        self._emit("gave_up", supervisor)
        verdict: Verdict = "close"
        if supervisor.spec.on_intensity == "degrade":
            verdict = "degrade"
        elif supervisor.parent is None:
            self.failed = True
        else:
            self._emit("crashed", supervisor, number=supervisor.number)
            verdict = self._judge(supervisor.parent, supervisor, crashed=True)
        self._fall(supervisor, verdict, "crash")
        return "held" if verdict in AGAIN and place.spec.restart != "temporary" else "close"

    def _significant_ended(self, supervisor: SupervisorModel, child: PlaceModel) -> None:
        if supervisor.state != "running":
            return
        if supervisor.auto_shutdown == "all_significant" and any(
            place.spec.significant and not place.closed for place in supervisor.children.values()
        ):
            return
        self._emit("auto_shutdown", supervisor, child.path)
        verdict: Verdict = "close"
        if supervisor.parent is None:
            self.finished_by = child.path
        else:
            verdict = self._judge(supervisor.parent, supervisor, crashed=False)
        supervisor.anew = verdict in AGAIN
        self._fall(supervisor, verdict, "shutdown")

    def _fall(self, supervisor: SupervisorModel, verdict: Verdict, why: str) -> None:
        """It ends by itself, once what led to it is over."""
        if supervisor.state in UP:  # its parent's verdict may have been to go down itself
            self._go_down(supervisor, verdict)
            supervisor.why = why
            life = supervisor.life
            self._soon.append(lambda: self._take_down(supervisor, life))

    # ---- group strategies

    def _mend_soon(self, supervisor: SupervisorModel) -> None:
        if not supervisor.mending and not supervisor.busy:
            supervisor.mending = True
            life = supervisor.life
            self._soon.append(lambda: self._mend(supervisor, life))

    def _affected(self, supervisor: SupervisorModel) -> list[ActorModel | SupervisorModel]:
        """What is restarted together: all, or from the first on that is broken or is down already."""
        living = [place for place in supervisor.children.values() if not place.closed]
        if supervisor.strategy == "rest_for_one":
            while living and living[0] not in supervisor.broken and living[0].state != "down":
                living.pop(0)
        return living

    def _mend(self, supervisor: SupervisorModel, life: int) -> None:
        """Stop all that is affected in reverse order; when the delay is over, start it in order."""
        if supervisor.life != life:
            return
        for place in reversed(self._affected(supervisor)):
            if place.state != "down":
                self.stop(place, restarting=True)
                self.work_off()
                if supervisor.life != life:
                    return
        if self.now < supervisor.not_before:
            self._at(supervisor.not_before, lambda: self._mended(supervisor, life))
        else:
            self._soon.append(lambda: self._mended(supervisor, life))

    def _mended(self, supervisor: SupervisorModel, life: int) -> None:
        if supervisor.life != life:
            return
        affected = self._affected(supervisor)
        if self.now < supervisor.not_before or any(place.state != "down" for place in affected):
            self._mend(supervisor, life)  # someone has crashed, or came, meanwhile: one batch
            return
        supervisor.broken.clear()
        for place in affected:
            if place.state == "down":
                self.begin(place)
                self.work_off()
                if supervisor.life != life:
                    return
                if supervisor.broken:
                    self._mend(supervisor, life)
                    return
        supervisor.mending = False

    # ---- stops

    def stop(self, place: ActorModel | SupervisorModel, *, restarting: bool) -> None:
        """End it, and all below it; `restarting`: whoever stops it starts it again."""
        if place.closed:
            return
        restarting = restarting and not place.opening and place.spec.restart != "temporary"
        place.cancel_timer()
        if place.state in {"waiting", "down"}:
            if restarting:
                place.state = "down"
            else:
                self._close(place, "stopped", "shutdown")
        elif isinstance(place, SupervisorModel):
            self._go_down(place, "held" if restarting else "close")
            self._take_down(place, place.life)
        else:
            self._emit("ended", place, "shutdown", number=place.number, again=restarting)
            self._settle(place, "held" if restarting else "close", "shutdown")

    def _go_down(self, supervisor: SupervisorModel, verdict: Verdict) -> None:
        again = verdict in AGAIN
        if supervisor.state == "stopping":
            # A final end stays final; otherwise the latest word counts.
            if supervisor.verdict in AGAIN and (not again or supervisor.verdict == "restart"):
                supervisor.verdict = verdict
            supervisor.restarting = supervisor.restarting and again
            return
        supervisor.state = "stopping"
        supervisor.life += 1
        supervisor.verdict = verdict
        supervisor.restarting = again
        supervisor.why = "shutdown"
        supervisor.broken.clear()
        supervisor.mending = supervisor.busy = False

    def _take_down(self, supervisor: SupervisorModel, life: int) -> None:
        if supervisor.life != life or supervisor.state != "stopping":
            return
        for child in reversed(tuple(supervisor.children.values())):
            self.stop(child, restarting=supervisor.restarting)
        verdict = supervisor.verdict
        assert verdict is not None
        again = verdict in AGAIN
        self._emit("ended", supervisor, supervisor.why, number=supervisor.number, again=again)
        self._settle(supervisor, "close" if again and not supervisor.restarting else verdict, supervisor.why)
