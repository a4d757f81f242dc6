"""Where a client's credential comes from: a key, what a command prints, or a token that either is exchanged for."""

from tinker_actors.credentials.keeper import Keeper

__all__ = ["Keeper"]
