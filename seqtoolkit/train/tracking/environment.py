"""What a run was made with: versions, platform, code; as tags."""

from __future__ import annotations

import getpass
import importlib.metadata
import platform
import subprocess
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

_PACKAGES = ("seqtoolkit", "torch", "torchdata", "numpy")


def environment_tags(folder: Path | None = None, packages: Iterable[str] = ()) -> dict[str, str]:
    """Versions, platform, and the git commit of `folder` (the working directory) where it is a checkout.

    `packages` are the distributions whose versions count besides those that every run is made with.
    The names that MLflow's pages know are MLflow's. `git.dirty` says whether tracked files differ from the commit.
    """
    tags = {"python": platform.python_version(), "platform": platform.platform()}
    for package in dict.fromkeys([*_PACKAGES, *sorted(packages)]):
        try:
            tags[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    tags["mlflow.source.name"] = " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])
    tags["mlflow.source.type"] = "LOCAL"
    with suppress(OSError, KeyError):  # a container's user may have no name
        tags["mlflow.user"] = getpass.getuser()
    commit = _git(folder, "rev-parse", "HEAD")
    if commit:
        tags["mlflow.source.git.commit"] = commit
        tags["git.dirty"] = str(bool(_git(folder, "status", "--porcelain", "--untracked-files=no"))).lower()
        branch = _git(folder, "branch", "--show-current")
        if branch:
            tags["mlflow.source.git.branch"] = branch
    return tags


def _git(folder: Path | None, *arguments: str) -> str | None:
    command = ["git", "-C", str(folder or Path.cwd()), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=5)  # noqa: S603  (no shell)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
