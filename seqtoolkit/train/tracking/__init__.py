"""Where a run is recorded: MLflow or nowhere."""

from seqtoolkit.train.tracking.curve import curves
from seqtoolkit.train.tracking.dispatch import deliver
from seqtoolkit.train.tracking.environment import environment_tags
from seqtoolkit.train.tracking.late import attach
from seqtoolkit.train.tracking.mlflow import MLflowTracker
from seqtoolkit.train.tracking.tracker import NullTracker, Status, Tracker, Value

__all__ = [
    "MLflowTracker",
    "NullTracker",
    "Status",
    "Tracker",
    "Value",
    "attach",
    "curves",
    "deliver",
    "environment_tags",
]
