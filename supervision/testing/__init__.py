"""Deterministic tests of actors: a virtual clock, a seeded scheduler, faults at every step, a model of supervisors.

`supervision.testing.operations` has what is done to a tree, `supervision.testing.scripted` the actors that do what
the operations say, and `supervision.testing.strategies` (which needs hypothesis) makes trees and operations.
"""

from supervision.testing.model import TreeModel
from supervision.testing.operations import TreeScenario
from supervision.testing.scripted import check_against_model
from supervision.testing.seeded import VirtualHang, run_seeded
from supervision.testing.sweep import InjectedFault, Scenario, SweepFailed, SweepReport, cancel_sweep

__all__ = [
    "cancel_sweep",
    "check_against_model",
    "InjectedFault",
    "run_seeded",
    "Scenario",
    "SweepFailed",
    "SweepReport",
    "TreeModel",
    "TreeScenario",
    "VirtualHang",
]
