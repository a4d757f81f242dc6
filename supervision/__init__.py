"""Actors and supervisors on trio. SEMANTICS.md lists what is guaranteed, and the test of each guarantee."""

from supervision.actor import Actor, handles
from supervision.backoff import Backoff
from supervision.children import ChildCounts, ChildInfo
from supervision.context import Context
from supervision.errors import (
    ActorDown,
    ActorStopped,
    AlreadyReplied,
    CallCycle,
    CallTimeout,
    CannotDefer,
    ChildNotFound,
    ChildNotStopped,
    CrashReport,
    Degraded,
    IntensityExceeded,
    InvalidKey,
    InvalidSpec,
    LinkBroken,
    MailboxFull,
    NameNotFound,
    NameTaken,
    NotInCall,
    NotInHandler,
    NotInThisState,
    NotRunning,
    StopReason,
    SupervisionError,
    TooManyChildren,
    UnknownMessage,
)
from supervision.events import (
    ActorBusy,
    ActorCrashed,
    ActorDegraded,
    ActorEnded,
    ActorRestarted,
    ActorRestarting,
    ActorStarted,
    ActorStuck,
    AutoShutdown,
    Event,
    Events,
    LateReply,
    ListenerFailed,
    LoopHeld,
    PlaceClosed,
    Subscription,
    SupervisorGaveUp,
    Undelivered,
)
from supervision.groups import Published
from supervision.loop_watch import StepClocks
from supervision.mailbox import Mailbox
from supervision.message import Call, Cast, Down
from supervision.monitor import Monitor
from supervision.partition import PartitionSupervisorRef, PartitionSupervisorSpec
from supervision.ref import ActorRef, SupervisorRef
from supervision.registry import Registry
from supervision.reply import Reply
from supervision.spec import ChildSpec, DynamicSupervisorSpec, SupervisorSpec
from supervision.state_machine import StateMachine
from supervision.states import in_state, on_enter, on_event_timeout, on_state_timeout
from supervision.system import ActorSystem, SystemStatistics, open_system
from supervision.tasks import ActorTask
from supervision.timers import Timer
from supervision.tree import TreeNode, TreeSnapshot

__all__ = [
    "Actor",
    "ActorBusy",
    "ActorCrashed",
    "ActorDegraded",
    "ActorDown",
    "ActorEnded",
    "ActorRef",
    "ActorRestarted",
    "ActorRestarting",
    "ActorStarted",
    "ActorStopped",
    "ActorStuck",
    "ActorSystem",
    "ActorTask",
    "AlreadyReplied",
    "AutoShutdown",
    "Backoff",
    "Call",
    "CallCycle",
    "CallTimeout",
    "CannotDefer",
    "Cast",
    "ChildCounts",
    "ChildInfo",
    "ChildNotFound",
    "ChildNotStopped",
    "ChildSpec",
    "Context",
    "CrashReport",
    "Degraded",
    "Down",
    "DynamicSupervisorSpec",
    "Event",
    "Events",
    "handles",
    "in_state",
    "IntensityExceeded",
    "InvalidKey",
    "InvalidSpec",
    "LateReply",
    "LinkBroken",
    "ListenerFailed",
    "LoopHeld",
    "Mailbox",
    "MailboxFull",
    "Monitor",
    "NameNotFound",
    "NameTaken",
    "NotInCall",
    "NotInHandler",
    "NotInThisState",
    "NotRunning",
    "on_enter",
    "on_event_timeout",
    "on_state_timeout",
    "open_system",
    "PartitionSupervisorRef",
    "PartitionSupervisorSpec",
    "PlaceClosed",
    "Published",
    "Registry",
    "Reply",
    "StateMachine",
    "StepClocks",
    "StopReason",
    "Subscription",
    "SupervisionError",
    "SupervisorGaveUp",
    "SupervisorRef",
    "SupervisorSpec",
    "SystemStatistics",
    "Timer",
    "TooManyChildren",
    "TreeNode",
    "TreeSnapshot",
    "Undelivered",
    "UnknownMessage",
]
