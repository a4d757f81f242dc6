"""What a runtime has done and how long it took: plain numbers on the event loop."""

from tinker_actors.metrics.histogram import Histogram, HistogramSnapshot
from tinker_actors.metrics.metrics import Metrics, MetricsSnapshot
from tinker_actors.metrics.names import OWN
from tinker_actors.metrics.usage import ModelUsage, Price, Usage, cost_of

__all__ = [
    "OWN",
    "Histogram",
    "HistogramSnapshot",
    "Metrics",
    "MetricsSnapshot",
    "ModelUsage",
    "Price",
    "Usage",
    "cost_of",
]
