"""Futures of the server: asking for a promise's result until it is there."""

from tinker_actors.polling.poller import Poller

__all__ = ["Poller"]
