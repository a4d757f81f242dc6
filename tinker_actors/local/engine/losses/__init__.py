"""The losses of forward_backward: one file each, and the table of their names."""

from tinker_actors.local.engine.losses.inputs import check_inputs, read_inputs
from tinker_actors.local.engine.losses.loss import Loss, Objective, Terms
from tinker_actors.local.engine.losses.metrics import reduced
from tinker_actors.local.engine.losses.table import LOSSES, objective

__all__ = ["check_inputs", "Loss", "LOSSES", "objective", "Objective", "read_inputs", "reduced", "Terms"]
