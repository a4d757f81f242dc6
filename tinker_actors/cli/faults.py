"""What the demo lets go wrong in its first third, and in which words it says so."""

from __future__ import annotations

from tinker_actors.testing.faults import CrashAt, DropAfter, DropBefore, FaultPlan, Fired

__all__ = ["describe", "fault_plan", "first_third", "label", "short"]


def first_third(steps: int) -> int:
    """How many of ``steps`` steps the faults fall into; at least one."""
    return max(1, steps // 3)


def fault_plan(third: int) -> FaultPlan:
    """Two crashes of the training actor, a lost request and a lost reply, spread over ``third`` steps.

    A step has two operations, each sent and polled for at least once, so every fault falls due in time.
    """
    return FaultPlan(
        (
            CrashAt(point="training.before_send", nth=_part(2 * third, 0.25)),
            CrashAt(point="training.polling", nth=_part(2 * third, 0.45)),
            DropBefore(path="/forward_backward", nth=_part(third, 0.65)),
            DropAfter(path="/optim_step", nth=_part(third, 0.85)),
        )
    )


def describe(fired: Fired) -> str:
    """What a fault did, as a line for people."""
    match fired.fault:
        case CrashAt(point="training.before_send"):
            return f"the training actor crashes after {short(fired.subject)} was accepted, before it is sent"
        case CrashAt(point="training.polling"):
            return f"the training actor crashes while it polls for {short(fired.subject)}"
        case CrashAt(point=point):
            return f"a crash at {point}, {fired.subject}"
        case DropBefore():
            return f"the connection is cut before {fired.subject} reaches the server"
        case DropAfter():
            return f"the connection is cut after the server acted on {fired.subject}: its reply is lost"
        case other:
            return f"{type(other).__name__} of {fired.subject}"


def label(fired: Fired) -> str:
    """What a fault did, in two or three words."""
    match fired.fault:
        case CrashAt(point="training.before_send"):
            return "crash before sending"
        case CrashAt(point="training.polling"):
            return "crash while polling"
        case DropBefore():
            return "request lost"
        case DropAfter():
            return "reply lost"
        case other:
            return type(other).__name__


def short(name: str) -> str:
    """The last part of an operation's or an actor's name, such as "#7"."""
    return "#" + name.rpartition("#")[2] if "#" in name else name.rpartition("/")[2]


def _part(count: int, share: float) -> int:
    return max(1, round(count * share))
