"""Deterministic tests of actors: a virtual clock, a seeded scheduler, faults at every step."""

from supervision.testing.seeded import VirtualHang, run_seeded
from supervision.testing.sweep import InjectedFault, Scenario, SweepFailed, SweepReport, cancel_sweep

__all__ = ["cancel_sweep", "InjectedFault", "run_seeded", "Scenario", "SweepFailed", "SweepReport", "VirtualHang"]
