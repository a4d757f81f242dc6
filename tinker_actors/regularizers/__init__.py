"""Regularizers of custom losses: eight of them, the way to combine them with a loss, and their real gradients."""

from tinker_actors.regularizers.distributions import Entropy, KLDivergence
from tinker_actors.regularizers.evaluate import Evaluated, LossFunction, evaluate, evaluate_async
from tinker_actors.regularizers.events import EVENTS, LossEvent, LossEventLog, LossListener
from tinker_actors.regularizers.executor import RegularizerExecutor, RegularizerResults
from tinker_actors.regularizers.gradient_tracker import GradientTracker, gradient_norm
from tinker_actors.regularizers.implementation import regularizer
from tinker_actors.regularizers.norms import L1, L2, ElasticNet
from tinker_actors.regularizers.pipeline import RegularizedLoss, RegularizerPipeline, with_regularizers
from tinker_actors.regularizers.structure import Consistency, GradientPenalty, Orthogonality

__all__ = [
    "Consistency",
    "ElasticNet",
    "Entropy",
    "evaluate",
    "evaluate_async",
    "Evaluated",
    "EVENTS",
    "RegularizerExecutor",
    "gradient_norm",
    "GradientPenalty",
    "GradientTracker",
    "KLDivergence",
    "L1",
    "L2",
    "LossEvent",
    "LossEventLog",
    "LossFunction",
    "LossListener",
    "Orthogonality",
    "RegularizerPipeline",
    "RegularizedLoss",
    "regularizer",
    "RegularizerResults",
    "with_regularizers",
]
