"""Package: an MLflow model in a folder: a pipeline, weights, and what it needs; no pickle, and no code."""

from __future__ import annotations

import copy
import json
import logging
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from seqtoolkit.export.need import distributions, files, requirements
from seqtoolkit.export.served import served
from seqtoolkit.fetch import PACKAGE, draft
from seqtoolkit.folder import CONFIG, SOURCE, RunFolder
from seqtoolkit.host.override import override
from seqtoolkit.train.checkpoint import FORMAT, MANIFEST, WEIGHTS, digest
from seqtoolkit.train.tracking.store import ready
from seqtoolkit.trained import FILES, NEEDS, Trained

LOADER = "seqtoolkit.export.served"


def export(trained: Trained, to: str | Path, *, force: bool = False) -> Path:
    """Write a trained model as an MLflow model to the folder `to`, whole or not at all; return its path.

    It has a signature, examples, the versions that it needs, `config.yaml` and `model.safetensors`, with a checksum of
    each; it can be moved, served (`mlflow models serve --env-manager local`) and loaded (`mlflow.pyfunc.load_model`).

    Args:
        trained: The model.
        to: The folder, which must not be there.
        force: Replace `to` where it is an exported model, or empty.

    Raises:
        ValueError: `to` is there, or cannot be written; a file that the pipeline names is too large to go along.
        CheckpointError: (a ValueError) the checkpoint is damaged.
    """
    target = Path(to).absolute()
    replaced = target.exists() or target.is_symlink()
    if replaced and not force:
        raise ValueError(f"{to} is there already: name another folder, or replace it with --force")
    if replaced and not ((target / PACKAGE).is_file() or (target.is_dir() and not any(target.iterdir()))):
        raise ValueError(f"{to} is no exported model, and is not replaced: name another folder")
    try:
        with draft(target) as made, draft(target) as aside:
            write(trained, made)
            if replaced:
                target.rename(aside)
            try:
                made.rename(target)
            except BaseException:
                if replaced:
                    aside.rename(target)
                raise
    except OSError as error:
        raise ValueError(f"{to} cannot be written: {error.strerror or error}") from None
    return target


def write(trained: Trained, path: Path, known: Any = None) -> None:
    """Write the MLflow model to `path`, which is not there; `known` is what MLflow knows of it. Raises OSError."""
    ready()
    from mlflow import pyfunc

    face = served(trained)
    plan, registry = trained.pipeline.plan, trained.pipeline.registry
    needs = distributions(plan, registry)
    with draft(path) as beside:
        data = beside / trained.place.path.name
        data.mkdir(parents=True)
        _write_data(trained, needs, data)
        told = {"pipeline": _name(trained), "run": trained.place.run_id, "step": trained.step}
        with _quiet():
            pyfunc.save_model(
                str(path),
                loader_module=LOADER,
                data_path=str(data),
                mlflow_model=known,
                signature=face.signature(),
                input_example=face.example(),
                pip_requirements=requirements(needs),
                metadata={f"seqtoolkit.{key}": value for key, value in told.items()},
            )


def _write_data(trained: Trained, needs: dict[str, str], data: Path) -> None:
    """The pipeline, the weights, the files that the pipeline names, and a manifest of all, with their checksums."""
    plan, registry = trained.pipeline.plan, trained.pipeline.registry
    names: dict[Path, str] = {}
    along: dict[str, str] = {}
    for key, path in files(plan, registry, kept=trained.place.source.exists()).items():
        along[key] = names.setdefault(path, f"{len(names)}-{re.sub(r'^[0-9]+-', '', path.name)}")
        shutil.copyfile(path, data / along[key])
    resolved = {**copy.deepcopy(plan.resolved), "track": {"use": "none"}}  # where it was recorded is nobody's business
    override(resolved, [f"{key}={json.dumps(name)}" for key, name in along.items()], {})
    (data / CONFIG).write_text(OmegaConf.to_yaml(OmegaConf.create(resolved)))
    shutil.copyfile(trained.weights / WEIGHTS, data / WEIGHTS)
    if trained.place.source.exists():
        shutil.copytree(trained.place.source, data / SOURCE)
    kept = [str(each.relative_to(data)) for each in sorted((data / SOURCE).rglob("*")) if each.is_file()]
    sums = {name: digest(data / name) for name in (CONFIG, WEIGHTS, *names.values(), *kept)}
    manifest = {"format": FORMAT, "step": trained.step, "sha256": sums, NEEDS: needs, FILES: along}
    (data / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")
    RunFolder(data).note(name=_name(trained), run_id=trained.place.tracked)


def _name(trained: Trained) -> str:
    """The name of the pipeline."""
    return trained.place.notes.get("name", trained.pipeline.plan.name)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep MLflow from saying what it does, and from taking the lock file of a uv project that one happens to stand in."""
    from mlflow.environment_variables import MLFLOW_UV_AUTO_DETECT as DETECTING

    logger, before = logging.getLogger("mlflow.pyfunc"), os.environ.get(DETECTING.name)
    level = logger.level
    logger.setLevel(logging.WARNING)
    DETECTING.set(False)
    try:
        yield
    finally:
        logger.setLevel(level)
        if before is None:
            DETECTING.unset()
        else:
            os.environ[DETECTING.name] = before
