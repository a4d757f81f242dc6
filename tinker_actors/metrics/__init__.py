"""Counters of a runtime: plain numbers on the event loop."""

from tinker_actors.metrics.counters import Counters

__all__ = ["Counters"]
