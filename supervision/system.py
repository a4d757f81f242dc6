"""A system: one nursery, one timer task, one root supervisor, and the way in and out."""

from __future__ import annotations

import contextvars
import math
import random as random_module
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager
from threading import get_ident
from typing import TYPE_CHECKING, Any, TypeVar, final, overload

import msgspec
import trio
from trio.lowlevel import enable_ki_protection

from supervision.children import ChildCounts, ChildInfo
from supervision.errors import InvalidSpec, WrongThread
from supervision.events import Events
from supervision.loop_watch import LoopWatch, StepClocks, check_alarm
from supervision.ref import ActorRef, SupervisorRef
from supervision.registry import Registry
from supervision.spec import AnySpec, AnySupervisorSpec, AutoShutdownMode, ChildSpec, SupervisorSpec
from supervision.strict_replies import StrictReplies
from supervision.supervisor import SupervisorPlace
from supervision.timers import Timers
from supervision.tree import TreeSnapshot, snapshot

if TYPE_CHECKING:
    from supervision.actor_place import ActorPlace
    from supervision.incarnation import Incarnation
    from supervision.partition import PartitionSupervisorRef, PartitionSupervisorSpec
    from supervision.reply import ReplyCell
    from supervision.supervised_task import TaskCell
    from supervision.task_supervisor import TaskSupervisor, TaskSupervisorSpec

S = TypeVar("S", bound=AnySpec)

__all__ = ["ActorSystem", "open_system", "SystemStatistics"]


class SystemStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """Counts of a system, since it was opened or now."""

    actors: int
    """Incarnations that live now, those that start, end and hibernate included."""
    hibernated: int
    """Of those, the ones that hibernate."""
    timers: int
    """Deadlines and timers pending now."""
    names: int
    """Registered now."""
    restarts: int
    undelivered: int
    """Casts that were accepted and not handled to their end."""
    late_replies: int


@final
class System:
    """What the library's own parts share."""

    __slots__ = (
        "_early",
        "_nursery",
        "_over",
        "body_scope",
        "events",
        "facade",
        "failures",
        "finished_by",
        "hibernated",
        "hurrying",
        "late_replies",
        "leaving",
        "mains",
        "now",
        "random",
        "registry",
        "restarts",
        "root",
        "strict_replies",
        "thread",
        "timers",
        "unasked",
        "undelivered",
        "variables",
        "watch",
    )

    def __init__(self, spec: SupervisorSpec, random: random_module.Random) -> None:
        self._nursery: trio.Nursery | None = None
        self._early: list[Callable[[trio.Nursery], None]] = []
        """What is to be started in it once it is open."""
        self._over = trio.Event()
        self.variables = contextvars.copy_context()
        """Incarnations start from these context variables, not from those of whoever starts or crashes them."""
        self.random = random
        self.thread = get_ident()
        self.events = Events(self.abort)
        self.registry = Registry()
        self.timers = Timers()
        self.now = self.timers.clock.current_time
        self.mains: dict[trio.lowlevel.Task, Incarnation] = {}
        """The main task of each incarnation."""
        self.leaving: dict[ReplyCell, trio.CancelScope] = {}
        """Of handlers that are cancelled when their caller leaves."""
        self.hibernated = 0
        self.restarts = 0
        self.unasked: dict[TaskCell[Any], None] = {}
        """Tasks that have failed, and whose result nobody has asked for yet."""
        self.undelivered = 0
        self.late_replies = 0
        self.hurrying = False
        """The world around is cancelled: nobody gets a grace for what is in hand."""
        self.failures: list[BaseException] = []
        self.finished_by: str | None = None
        self.body_scope = trio.CancelScope()
        self.root = SupervisorPlace(self, None, spec)
        self.facade = ActorSystem(self)
        self.watch: LoopWatch | None = None
        self.strict_replies: StrictReplies | None = None

    @enable_ki_protection
    async def hold(self) -> None:
        """The task over all others: the world around reaches them only as an ordered shutdown."""
        with trio.CancelScope(shield=True):
            async with trio.open_nursery() as self._nursery:
                while self._early:
                    self._early.pop(0)(self._nursery)
                await self._over.wait()

    def spawn(
        self,
        function: Callable[..., Awaitable[object]],
        *args: Any,
        name: str,
        place: ActorPlace | None = None,
        variables: contextvars.Context | None = None,
    ) -> None:
        """Start a task of the library's; `place`: the actor that it belongs to; `variables`: if not the system's."""

        def start(nursery: trio.Nursery) -> None:
            if self.watch is not None:
                self.watch.owner_of_next(place)
            (self.variables if variables is None else variables).run(nursery.start_soon, function, *args, name=name)

        if self._nursery is not None:
            start(self._nursery)
        else:
            self._early.append(start)

    def check_thread(self, target: str, what: str) -> None:
        """Raises WrongThread. Whatever wakes or starts a task asks: trio would do it half, or in another run."""
        if get_ident() != self.thread:
            raise WrongThread(target, what)

    def abort(self, error: BaseException) -> None:
        """The system can't go on: end the body, shut down in order, raise `error` from open_system."""
        self.failures.append(error)
        self.body_scope.cancel(reason=f"the system {self.root.path} fails: {type(error).__name__}")
        if self.root.state == "stopping" and not isinstance(error, Exception):
            self._hurry(math.inf)

    def finish(self, child: str) -> None:
        """A significant child of the root has ended, and the root shuts down: end the body; nothing is raised."""
        self.finished_by = child
        self.body_scope.cancel(reason=f"the system {self.root.path} shuts down: {child} has ended")

    @enable_ki_protection
    async def shut_down(self, *, hurry: bool) -> None:
        """Stop everything. Whoever interrupts it hurries it, and is heard when all have ended, not before."""
        interrupted: BaseException | None = None
        if hurry:
            self._hurry(math.inf)
        else:
            self.root.request_stop("shutdown", math.inf, restarting=False)
        try:
            while True:
                try:
                    with trio.CancelScope(shield=self.hurrying):
                        await self.root.wait_down()
                    break
                except (trio.Cancelled, KeyboardInterrupt) as error:  # no shield keeps ^C out
                    interrupted = error
                    self._hurry(self.now() if self.hurrying else math.inf)
        finally:
            for task in tuple(self.unasked):
                task.report_failure()
            self.timers.close()
            self._over.set()
        if interrupted is not None:
            raise interrupted

    def _hurry(self, hard: float) -> None:
        """No grace for what is in hand; terminate() has its own, but not beyond `hard`."""
        self.hurrying = True
        self.root.request_stop("cancelled", hard, restarting=False)


@final
class ActorSystem:
    """What open_system() gives: the root supervisor, the event stream, the registry and the tree."""

    __slots__ = ("_system",)

    def __init__(self, system: System) -> None:
        self._system = system

    @property
    def name(self) -> str:
        """The first part of every path."""
        return self._system.root.name

    @property
    def events(self) -> Events:
        """What happens, as a stream of typed events."""
        return self._system.events

    @property
    def registry(self) -> Registry:
        """Names for actors."""
        return self._system.registry

    @property
    def random(self) -> random_module.Random:
        """The injected generator."""
        return self._system.random

    @property
    def root(self) -> SupervisorRef:
        """The root supervisor."""
        return self._system.root.ref

    @property
    def finished_by(self) -> str | None:
        """The path of the significant child whose end has ended the system (see open_system's auto_shutdown)."""
        return self._system.finished_by

    @overload
    async def start_child(self, spec: ChildSpec) -> ActorRef: ...
    @overload
    async def start_child(self, spec: PartitionSupervisorSpec[S]) -> PartitionSupervisorRef[S]: ...
    @overload
    async def start_child(self, spec: TaskSupervisorSpec) -> TaskSupervisor: ...
    @overload
    async def start_child(self, spec: AnySupervisorSpec) -> SupervisorRef: ...
    @overload
    async def start_child(self, spec: AnySpec) -> ActorRef | SupervisorRef: ...
    async def start_child(self, spec: AnySpec) -> ActorRef | SupervisorRef:
        """Start a child of the root supervisor. See SupervisorRef.start_child."""
        return await self.root.start_child(spec)

    async def stop_child(self, name: str) -> None:
        """See SupervisorRef.stop_child."""
        await self.root.stop_child(name)

    async def restart_child(self, name: str) -> None:
        """See SupervisorRef.restart_child."""
        await self.root.restart_child(name)

    async def delete_child(self, name: str) -> None:
        """See SupervisorRef.delete_child."""
        await self.root.delete_child(name)

    def which_children(self) -> tuple[ChildInfo, ...]:
        """See SupervisorRef.which_children."""
        return self.root.which_children()

    def count_children(self) -> ChildCounts:
        """See SupervisorRef.count_children."""
        return self.root.count_children()

    def child(self, name: str) -> ActorRef | SupervisorRef:
        """See SupervisorRef.child."""
        return self.root.child(name)

    def children(self) -> dict[str, ActorRef | SupervisorRef]:
        """See SupervisorRef.children."""
        return self.root.children()

    def cut_short(self) -> None:
        """End now, as a second ^C in the shutdown does: the body is cancelled, what is in hand too, and each
        terminate(), in order, is cut off where it first waits. Idempotent.
        """
        system = self._system
        system.check_thread(system.root.path, "the request to cut it short")
        system.body_scope.cancel(reason=f"the system {system.root.path} is cut short")
        system._hurry(system.now())  # noqa: SLF001  # its own facade

    def tree(self) -> TreeSnapshot:
        """The tree as it is now."""
        return snapshot(self._system.root)

    def statistics(self) -> SystemStatistics:
        """Counts."""
        system = self._system
        return SystemStatistics(
            actors=len(system.mains) + system.hibernated,
            hibernated=system.hibernated,
            timers=system.timers.live,
            names=len(system.registry),
            restarts=system.restarts,
            undelivered=system.undelivered,
            late_replies=system.late_replies,
        )

    def __repr__(self) -> str:
        return f"<ActorSystem {self.name}>"


def _check_random(given: object) -> None:
    if not isinstance(given, random_module.Random):
        raise InvalidSpec(
            f"open_system: random must be a generator, as random.Random(seed) or random.SystemRandom(), got {given!r}"
        )


@asynccontextmanager
@enable_ki_protection  # the library's own steps; the block is the user's
async def open_system(
    name: str = "system",
    *,
    random: random_module.Random,
    max_restarts: int = 3,
    max_seconds: float = 5.0,
    shutdown: float = math.inf,
    auto_shutdown: AutoShutdownMode = "never",
    strict_replies: bool = False,
    loop_alarm: float | None = None,
    cpu_time: bool = False,
    step_clocks: StepClocks | None = None,
) -> AsyncGenerator[ActorSystem]:
    """Open a system; leaving the block stops every actor in reverse start order.

    random: the generator behind all jitter and every context.random.
    max_restarts, max_seconds: the root supervisor's intensity; when it is exceeded the block is cancelled and
    IntensityExceeded raised. shutdown: a bound in seconds on stopping everything.
    auto_shutdown: as a SupervisorSpec's, for the root's children: when significant ones have ended, the block is
    cancelled, everything stops in order, and the block is left without an error; `system.finished_by` says who it
    was.
    strict_replies: a reply that is not an instance of the R that its Call[R] declares (of a generic type: of its
    origin) raises WrongReply at the caller, and is reported (ReplyRefused); its actor lives on.
    loop_alarm: real seconds; a step of any task that keeps all others from running for that long is reported
    (LoopHeld). cpu_time: measure what each actor uses of the processor (TreeNode.cpu_seconds). Both cost about a
    microsecond for every step of this run of trio. step_clocks: what they are measured with, for tests.

    If the world around is cancelled (or KeyboardInterrupt or SystemExit comes out of an actor), no message in hand
    is waited for any more; each terminate() still runs, in order, within its bound; then it is raised again. ^C while
    that goes on cuts terminate() off, too.
    Raises InvalidSpec.
    """
    spec = SupervisorSpec(
        name, max_restarts=max_restarts, max_seconds=max_seconds, shutdown=shutdown, auto_shutdown=auto_shutdown
    )
    check_alarm(loop_alarm)
    _check_random(random)
    caught: BaseException | None = None
    with ExitStack() as stack:
        async with trio.open_nursery() as nursery:
            system = System(spec, random)
            if strict_replies:
                system.strict_replies = StrictReplies()
            nursery.start_soon(system.hold, name=f"{name}/hold")
            if loop_alarm is not None or cpu_time:
                system.watch = LoopWatch(system, loop_alarm, cpu_time=cpu_time, clocks=step_clocks or StepClocks())
                system.watch.install()
                stack.callback(system.watch.remove)
            system.spawn(system.timers.run, name=f"{name}/timers")
            await system.root.open()
            try:
                with system.body_scope:
                    yield system.facade
            except BaseException as error:
                if isinstance(error, GeneratorExit):
                    raise
                caught = error
            worst = [*system.failures, *([] if caught is None else [caught])]
            try:
                await system.shut_down(hurry=any(not isinstance(error, Exception) for error in worst))
            except trio.Cancelled as error:
                caught = caught or error
            except KeyboardInterrupt as error:
                if all(isinstance(known, Exception) for known in worst):
                    system.failures.append(error)
    system.events.clear()
    failures = system.failures
    if failures:
        if caught is not None and not isinstance(caught, trio.Cancelled):
            failures = [*failures, caught]
        if len(failures) == 1:
            raise failures[0]
        raise BaseExceptionGroup(f"the system {name} failed", failures)
    if caught is not None:
        raise caught
