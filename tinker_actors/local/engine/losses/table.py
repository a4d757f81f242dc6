"""The losses by name, and what their configuration may say (WIRE 5.5)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

from tinker_actors.errors import InvalidInput
from tinker_actors.local.engine.losses.cispo import CISPO
from tinker_actors.local.engine.losses.cross_entropy import CROSS_ENTROPY
from tinker_actors.local.engine.losses.dro import DRO
from tinker_actors.local.engine.losses.gspo import GSPO
from tinker_actors.local.engine.losses.importance_sampling import IMPORTANCE_SAMPLING
from tinker_actors.local.engine.losses.loss import Loss, Objective
from tinker_actors.local.engine.losses.ppo import PPO
from tinker_actors.local.engine.losses.ratio import CLIP_HIGH, CLIP_LOW
from tinker_actors.local.engine.losses.stable_reinforce import STABLE_REINFORCE

__all__ = ["CUSTOM", "LOSSES", "objective"]

LOSSES: Final[Mapping[str, Loss]] = {
    "cross_entropy": CROSS_ENTROPY,
    "importance_sampling": IMPORTANCE_SAMPLING,
    "ppo": PPO,
    "cispo": CISPO,
    "dro": DRO,
    "gspo": GSPO,
    "stable_reinforce": STABLE_REINFORCE,
}
CUSTOM: Final = "custom"
_LOSS_ID: Final = "loss_id"
_LONGEST_SHOWN: Final = 60


def objective(loss_fn: str, config: Mapping[str, float | str], custom: Mapping[str, Loss] | None = None) -> Objective:
    """The loss of this name, with ``config`` before default settings. Raises InvalidInput for what there is not.

    Losses that users have uploaded are in ``custom``, by the id that the configuration of "custom" names.
    """
    if loss_fn == CUSTOM:
        return _custom(config, custom or {})
    loss = LOSSES.get(loss_fn)
    if loss is None:
        offered = ", ".join((*LOSSES, CUSTOM))
        raise InvalidInput("loss_fn", f"{loss_fn[:_LONGEST_SHOWN]!r} is not offered here", f"Use one of {offered}")
    settings = dict(loss.settings)
    for key, value in config.items():
        if key not in settings:
            known = f"Use {', '.join(settings)}" if settings else "Leave it out"
            raise InvalidInput("loss_fn_config", f"{loss_fn} has no setting {key[:_LONGEST_SHOWN]!r}", known)
        if isinstance(value, str) or not math.isfinite(value) or value < 0.0:
            raise InvalidInput(f"loss_fn_config[{key!r}]", f"{value!r} is out of range", "Give a number from 0")
        settings[key] = float(value)
    if CLIP_LOW in settings and settings[CLIP_LOW] > settings[CLIP_HIGH]:
        problem = f"{settings[CLIP_LOW]:g} is above {CLIP_HIGH}, which is {settings[CLIP_HIGH]:g}"
        cure = "Give both bounds of the ratio, such as 0.8 and 1.2"
        raise InvalidInput(f"loss_fn_config[{CLIP_LOW!r}]", problem, cure)
    return Objective(loss_fn, loss, settings)


def _custom(config: Mapping[str, float | str], custom: Mapping[str, Loss]) -> Objective:
    loss_id = config.get(_LOSS_ID)
    if not isinstance(loss_id, str) or len(config) != 1:
        raise InvalidInput("loss_fn_config", "does not name just a loss_id", "Give that of create_custom_loss")
    loss = custom.get(loss_id)
    if loss is None:
        problem = f"there is no loss {loss_id[:_LONGEST_SHOWN]!r}"
        raise InvalidInput("loss_fn_config['loss_id']", problem, "Create it first, in this session")
    return Objective(CUSTOM, loss, {})
