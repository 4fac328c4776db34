"""The tests' own cache folder: what is made of packaged texts, and compiled, stays out of the user's."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Examples of the docs come first: a run ends with what is short, and no process waits for another."""
    items.sort(key=lambda item: "test_examples_run" not in item.name)


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Shared by all test processes; what others keep in the user's is found there, and what has been compiled as well."""
    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    kept, cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser(), base / "cache"
    with (base / "cache.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not cache.exists():
            (cache / "seqtoolkit").mkdir(parents=True)
            for other in kept.glob("[!.]*"):
                if other.name != "seqtoolkit":
                    (cache / other.name).symlink_to(other)
            for library in kept.glob("seqtoolkit/native-*.so"):
                shutil.copy(library, cache / "seqtoolkit")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(cache))
        yield
