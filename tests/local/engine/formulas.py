"""The losses once more, as WIRE 5.5 and their papers write them: one datum, plainly.

``lp`` are the targets' log-probabilities; ``frozen`` are the same numbers where a formula says stopgrad.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinker_actors.types import Datum, FloatArray

Array = NDArray[np.float64] | FloatArray


def formula(loss_fn: str, lp: Array, frozen: Array, datum: Datum, config: Mapping[str, float]) -> float:
    """In float64."""
    given = {key: datum.tensor(key).to_numpy().astype(np.float64) for key in datum.loss_fn_inputs}
    return float(_formula(np, loss_fn, lp, frozen, given={**config, **given, "prompt": _prompt(datum)}))


def torch_formula(torch: Any, loss_fn: str, lp: Any, datum: Datum, config: Mapping[str, float]) -> Any:
    """In torch, with gradients."""
    given = {key: torch.tensor(datum.tensor(key).to_numpy().copy()) for key in datum.loss_fn_inputs}
    return _formula(torch, loss_fn, lp, lp.detach(), given={**config, **given, "prompt": _prompt(datum)})


def _prompt(datum: Datum) -> int:
    """How many targets come before those that were sampled."""
    return datum.loss_fn_input_spans[0].length if datum.loss_fn_input_spans else 0


def _formula(library: Any, loss_fn: str, lp: Any, frozen: Any, *, given: Mapping[str, Any]) -> Any:
    # numpy and torch agree on all that is used here
    if loss_fn == "cross_entropy":
        return -(given["weights"] * lp).sum()
    old, advantage = given["logprobs"], given["advantages"]
    low, high = given.get("clip_low_threshold"), given.get("clip_high_threshold")
    ratio = library.exp(lp - old)
    match loss_fn:
        case "importance_sampling":
            return -(ratio * advantage).sum()
        case "ppo":
            return -library.minimum(ratio * advantage, library.clip(ratio, low, high) * advantage).sum()
        case "cispo":
            return -(library.clip(library.exp(frozen - old), low, high) * lp * advantage).sum()
        case "dro":
            return -(lp * advantage - 0.5 * given["beta"] * (lp - old) ** 2).sum()
        case "gspo":
            mask = given["sequence_ratio_mask"]
            ratio = library.exp((mask * (lp - old)).sum() / mask.sum())
            return -library.minimum(ratio * advantage, library.clip(ratio, low, high) * advantage).sum()
        case "stable_reinforce":
            weight = library.clip(library.exp(frozen - old), 0.0, 1.0)
            pull = 0.5 * given["kl_coeff"] * (lp - old) ** 2
            return (pull - weight * advantage * lp)[given["prompt"] :].sum()
        case _:
            raise ValueError(loss_fn)
