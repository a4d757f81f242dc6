"""Fault plans: what goes wrong, as data, and the adapters that make it happen.

A plan is a frozen value: comparable, printable as the Python that makes it again, drawable by Hypothesis
(``tinker_actors.testing.operations.fault_plans``). Its faults are those of ``network``, ``server`` and ``client``;
each kind says how a run that meets it must end (``Ending``). ``FaultyTransport`` applies faults at requests over any
Transport, the real one too, ``PlannedPoints`` crashes at named points of the code, and ``PlannedSteps`` what happens
at steps of the scheduler. Each logs what fired.

Which request a fault hits: each fault counts the wire attempts, re-sends included, whose URL path ends with its
``path`` ("" counts all), and hits number ``nth`` and the ``times - 1`` after it. Where several faults would hit
one attempt, the first in the plan does; all of them have counted it.
"""

from tinker_actors.testing.faults.client import BlockLoop as BlockLoop
from tinker_actors.testing.faults.client import CancelCaller as CancelCaller
from tinker_actors.testing.faults.client import ClientFault as ClientFault
from tinker_actors.testing.faults.client import CrashActor as CrashActor
from tinker_actors.testing.faults.client import CrashAt as CrashAt
from tinker_actors.testing.faults.client import KillRuntime as KillRuntime
from tinker_actors.testing.faults.disk import DeathAtDisk as DeathAtDisk
from tinker_actors.testing.faults.disk import DiskFault as DiskFault
from tinker_actors.testing.faults.disk import FullDisk as FullDisk
from tinker_actors.testing.faults.disk import LostSync as LostSync
from tinker_actors.testing.faults.disk import PlannedDisk as PlannedDisk
from tinker_actors.testing.faults.disk import TornWrite as TornWrite
from tinker_actors.testing.faults.kinds import Ending as Ending
from tinker_actors.testing.faults.network import Delay as Delay
from tinker_actors.testing.faults.network import DropAfter as DropAfter
from tinker_actors.testing.faults.network import DropBefore as DropBefore
from tinker_actors.testing.faults.network import Duplicate as Duplicate
from tinker_actors.testing.faults.network import NetworkFault as NetworkFault
from tinker_actors.testing.faults.network import Partition as Partition
from tinker_actors.testing.faults.network import RefuseSeqId as RefuseSeqId
from tinker_actors.testing.faults.network import Reorder as Reorder
from tinker_actors.testing.faults.network import Reset as Reset
from tinker_actors.testing.faults.network import Status as Status
from tinker_actors.testing.faults.network import Truncate as Truncate
from tinker_actors.testing.faults.plan import FAULT_KINDS as FAULT_KINDS
from tinker_actors.testing.faults.plan import Fault as Fault
from tinker_actors.testing.faults.plan import FaultPlan as FaultPlan
from tinker_actors.testing.faults.plan import Fired as Fired
from tinker_actors.testing.faults.plan import Schedule as Schedule
from tinker_actors.testing.faults.plan import names_of as names_of
from tinker_actors.testing.faults.points import InjectedCrash as InjectedCrash
from tinker_actors.testing.faults.points import PlannedPoints as PlannedPoints
from tinker_actors.testing.faults.reading import plan_from_json as plan_from_json
from tinker_actors.testing.faults.server import CorruptModels as CorruptModels
from tinker_actors.testing.faults.server import ExpireSessions as ExpireSessions
from tinker_actors.testing.faults.server import JumpClock as JumpClock
from tinker_actors.testing.faults.server import LosePromises as LosePromises
from tinker_actors.testing.faults.server import PauseQueue as PauseQueue
from tinker_actors.testing.faults.server import RestartServer as RestartServer
from tinker_actors.testing.faults.server import ServerFault as ServerFault
from tinker_actors.testing.faults.server import ServerUnderTest as ServerUnderTest
from tinker_actors.testing.faults.steps import PlannedSteps as PlannedSteps
from tinker_actors.testing.faults.transport import FaultyTransport as FaultyTransport
