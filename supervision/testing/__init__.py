"""Deterministic tests of actors: a virtual clock, a seeded scheduler, faults at every step."""

from supervision.testing.seeded import VirtualHang, run_seeded

__all__ = ["run_seeded", "VirtualHang"]
