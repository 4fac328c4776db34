"""Registry: the models that are registered in an MLflow store, found, fetched, and given new versions."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from seqtoolkit.train.tracking.library import Library, LibraryError, pages, quoted, told
from seqtoolkit.train.tracking.store import public, ready, translated

_ADDRESS = re.compile(r"models:/+(?P<name>[^/:@]+)(?:/(?P<version>\d+|latest)|@(?P<alias>[^/:@]+))")
_UNLOGGED = re.compile(r"[/:.%\"']")
"""What a registered model's name may have, and that of a logged model not."""
_LOGGED = re.compile(r"models:/+(?P<key>m-[\w-]+)")
_ALIAS = re.compile(r"(?!(?i:latest|v\d+|\d+)$)[\w-]{1,255}", re.ASCII)


class Version(NamedTuple):
    """One version of a registered model."""

    name: str
    version: str
    run_id: str | None
    """The run that it is of."""
    key: str
    """What no other version has, of any model in any store: a name for the folder of its copy."""
    location: str
    """Where its files are."""

    @property
    def uri(self) -> str:
        """The address of this version, `models:/name/1`."""
        return f"models:/{self.name}/{self.version}"


class ModelRegistry:
    """The model registry of one MLflow store. Its methods raise LibraryError, a ValueError of one line."""

    def __init__(self, uri: str | None = None) -> None:
        """Open that of the store at `uri`, or of the one that MLflow's own settings name."""
        self.library = Library(uri)
        self.uri = self.library.uri
        with told(), translated(self.uri, opening=True):
            self._client = ready().MlflowClient(self.uri)

    def find(self, address: str) -> Version:
        """The version that `models:/name/1`, `models:/name/latest` or `models:/name@alias` stands for."""
        match = _ADDRESS.fullmatch(address)
        if match is None:
            raise LibraryError(f"wanted models:/NAME/VERSION or models:/NAME@ALIAS, got {address!r}")
        name, version = match["name"], match["version"]
        known = self.versions(name)
        if alias := match["alias"]:
            with told(), translated(self.uri):
                aliases = {key: str(value) for key, value in self._client.get_registered_model(name).aliases.items()}
            if alias not in aliases:
                there = ", ".join(f"{key} (version {value})" for key, value in sorted(aliases.items())) or "none"
                raise LibraryError(
                    f"the model {name!r} in {public(self.uri)} has no alias {alias!r}; there are: {there}"
                )
            version = aliases[alias]
        elif version == "latest":
            version = known[-1]
        if version not in known:
            raise LibraryError(
                f"the model {name!r} in {public(self.uri)} has no version {version}; there are: {', '.join(known)}"
            )
        with told(), translated(self.uri):
            found = self._client.get_model_version(name, version)
            logged = _LOGGED.fullmatch(found.source or "")
            if logged is None:
                key = re.sub(r"\W", "_", f"{name}-{version}-{found.creation_timestamp}")
                location = self._client.get_model_version_download_uri(name, version)
            else:
                key = logged["key"]
                location = self._client.get_logged_model(key).artifact_location
        return Version(name, version, found.run_id or None, key, location)

    def versions(self, name: str) -> list[str]:
        """The versions of a model in order, of which there is at least one."""
        with told(), translated(self.uri):
            names = [each.name for each in pages(self._client.search_registered_models)]
            found = list(pages(self._client.search_model_versions, f"name={quoted(name)}"))
        if not found:
            there = ", ".join(names[:10]) or "none"
            raise LibraryError(f"no model {name!r} is registered in {public(self.uri)}; there are: {there}")
        return sorted((str(each.version) for each in found), key=int)

    def download(self, version: Version, to: Path) -> Path:
        """Copy a version's files into the folder `to`, which is made; returns the folder inside that has them."""
        from mlflow.artifacts import download_artifacts

        to.mkdir(parents=True)
        with told(), translated(self.uri):
            return Path(download_artifacts(artifact_uri=version.location, dst_path=str(to), tracking_uri=self.uri))

    def register(
        self, name: str, run_id: str, step: int, save: Callable[[Any], Path], alias: str | None = None
    ) -> Version:
        """Make a model of a run, linked to the run and its metrics at `step`, and register it under `name`.

        `save` is handed what MLflow knows of the model and returns the folder to copy. Where something fails the model
        is marked as failed, and nothing is registered.
        """
        run = self.library.run(run_id)
        with told(), translated(self.uri, opening=True):
            made = self._client.create_logged_model(
                run.experiment_id,
                name=_UNLOGGED.sub("_", name),
                source_run_id=run_id,
                params=dict(run.params),
                model_type="seqtoolkit",
            )
        try:
            folder = save(made)
            with told(), translated(self.uri):
                self._client.log_model_artifacts(made.model_id, str(folder))
                self._client.finalize_logged_model(made.model_id, "READY")
        except BaseException:
            with suppress(Exception):
                self._client.finalize_logged_model(made.model_id, "FAILED")
            raise
        with told(), translated(self.uri):
            self._link(run_id, made.model_id, step)
            self._name(name)
            version = str(
                self._client.create_model_version(
                    name, f"models:/{made.model_id}", run_id, model_id=made.model_id, await_creation_for=0
                ).version
            )
            if alias is not None:
                self._client.set_registered_model_alias(name, alias, version)
        return Version(name, version, run_id, made.model_id, made.artifact_location)

    def _link(self, run_id: str, model_id: str, step: int) -> None:
        """Tell the run of its model, and the model of what the run measured at its step."""
        from mlflow.entities import LoggedModelOutput, Metric

        self._client.log_outputs(run_id, [LoggedModelOutput(model_id, step)])
        points = [
            Metric(each.key, each.value, each.timestamp, each.step, model_id=model_id, run_id=run_id)
            for name in self._client.get_run(run_id).data.metrics
            if "/" in name and not name.startswith("system/")
            for each in self._client.get_metric_history(run_id, name)
            if each.step == step
        ]
        if points:
            self._client.log_batch(run_id, metrics=points)

    def _name(self, name: str) -> None:
        """Have a registered model of this name."""
        from mlflow.exceptions import MlflowException

        try:
            self._client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code not in ("RESOURCE_ALREADY_EXISTS", "ALREADY_EXISTS"):
                raise


def require_names(name: str, alias: str | None = None) -> None:
    """Raises ValueError where MLflow would take this for no name of a model, or no alias."""
    if (
        not name.strip()
        or name != name.strip()
        or re.search(r"[/:@\n]", name)
        or name in (".", "..")
        or len(name) > 250
    ):
        raise ValueError(f"a model's name is text without / : @ of at most 250 characters, got {name!r}")
    if re.match(r"m-[0-9a-f]+$", name):
        raise ValueError(f"a name such as {name!r} stands for a model that is not registered; choose another")
    if alias is not None and not _ALIAS.fullmatch(alias):
        raise ValueError(f"an alias has letters, digits, _ and -, and is no version (3, v3, latest), got {alias!r}")
