"""Registration: a trained model as a version of a registered model, linked to its run, in the run's store."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from seqtoolkit.export.package import write
from seqtoolkit.train.tracking import outbox
from seqtoolkit.train.tracking.courier import with_password
from seqtoolkit.train.tracking.outbox import State
from seqtoolkit.train.tracking.registry import ModelRegistry, Version, require_names
from seqtoolkit.train.tracking.store import ready
from seqtoolkit.trained import Trained


def register(trained: Trained, name: str, *, alias: str | None = None, store: str | None = None) -> Version:
    """Export a trained model into the store of its run, and register it there; return the new version, whose `uri` names it.

    Args:
        trained: The model.
        name: The registered model that gets a new version, the first where there is none of this name.
        alias: A name for this version among the others, such as `best`; it moves here from another one.
        store: The address of the store; that of the run where None.

    Raises:
        ValueError: a name that MLflow does not take, a run that is in no store, a store that does not answer; one line.
    """
    require_names(name, alias)
    place = trained.place
    state = State.load(place.path)
    run_id = state.run or place.tracked
    if run_id is None and (place.path / outbox.JOURNAL).exists():
        raise ValueError(f"the run {place.run_id} is not in its tracking store yet: seqtoolkit deliver {place.path}")
    if run_id is None:
        raise ValueError(
            f"the run {place.run_id} is in no tracking store, and a registered model is one of a run there: "
            "train with track=mlflow, or export it to a folder"
        )
    registry = ModelRegistry(store or (with_password(state.store) if state.store else None))

    with tempfile.TemporaryDirectory() as folder:

        def save(made: Any) -> Path:
            ready()
            from mlflow.models import Model

            path = Path(folder) / "model"
            known = Model(
                artifact_path=made.artifact_location, model_uuid=made.model_id, run_id=run_id, model_id=made.model_id
            )
            write(trained, path, known)
            return path

        return registry.register(name, run_id, trained.step, save, alias)
