"""Build: a C++ library compiled by the machine's own compiler on first use, and kept in the user's cache directory."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import logging
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

__all__ = ["BuildError", "load"]

COMPILERS = ("c++", "g++", "clang++")
FLAGS = ("-std=c++17", "-O3", "-fopenmp-simd", "-fno-math-errno", "-fno-trapping-math", "-fPIC", "-shared", "-pthread")
"""Nothing of -ffast-math that would let NaN or infinity get lost."""
TUNINGS = (("-march=native",), ())
"""What is tried in turn."""
PATIENCE = 300.0
"""Seconds that a compiler has."""
DIGEST = hashlib.sha256().digest_size
STALE = 3600.0
"""Seconds after which something half-built belongs to nobody."""


class BuildError(Exception):
    """Why there is no library, in a clause."""


@cache
def load(directory: Path, source: str) -> ctypes.CDLL | BuildError:
    """The library of `source`, which may include the other files of `directory`; or why there is none.

    Built where the cache has none of these sources for this compiler and this CPU; answered from memory the second
    time, a failure too.
    """
    try:
        return _load(directory, source)
    except BuildError as error:
        return error


def _load(directory: Path, source: str) -> ctypes.CDLL:
    compiler, version = _compiler()
    name = f"{Path(source).stem}-{_key(directory, compiler, version)}.so"
    with contextlib.suppress(OSError, BuildError):
        if _whole(_cache() / name):
            return _open(_cache() / name)
    logging.getLogger("seqtoolkit").getChild("rmc").info(
        "rmc: compiling its C++ for this machine, once, for some seconds"
    )
    with _workplace() as place:
        built = place / name
        _compile(compiler, directory / source, built)
        built.write_bytes(_sealed(built.read_bytes()))
        library = _open(built)  # what cannot be opened is not kept; what is open may be moved
        with contextlib.suppress(OSError):
            built.replace(_cache() / name)
        return library


def _compiler() -> tuple[list[str], str]:
    """The command that runs the compiler, and what it says of itself."""
    asked = os.environ.get("CXX", "")
    try:
        commands = [shlex.split(asked)] if asked.strip() else [[name] for name in COMPILERS]
    except ValueError as error:
        raise BuildError(f"cannot read the compiler that CXX names, {asked!r}: {error}") from None
    for command in commands:
        if shutil.which(command[0]):
            return command, _run([*command, "--version"], "--version")
    wanted = f"{commands[0][0]!r}, which CXX names" if asked.strip() else f"none of {', '.join(COMPILERS)}"
    raise BuildError(f"wants a C++ compiler, found {'no ' if asked.strip() else ''}{wanted}")


def _compile(compiler: Sequence[str], source: Path, target: Path) -> None:
    for number, tuning in enumerate(TUNINGS, 1):
        try:
            _run([*compiler, *FLAGS, *tuning, str(source), "-o", str(target)], source.name)
        except BuildError:
            if number == len(TUNINGS):
                raise
        else:
            return


def _run(command: Sequence[str], what: str) -> str:
    """What a command prints, if it goes well."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=PATIENCE, check=False)  # noqa: S603  the user's own compiler
    except subprocess.TimeoutExpired:
        raise BuildError(f"{command[0]} had not finished {what} after {PATIENCE:.0f} seconds") from None
    except OSError as error:
        raise BuildError(f"{command[0]} cannot be run: {error.strerror}") from None
    if done.returncode != 0:
        said = next((line for line in done.stderr.splitlines() if "error" in line), done.stderr.strip()[:200])
        raise BuildError(
            f"{command[0]} fails at {what} (exit status {done.returncode}): {said or 'it does not say why'}"
        )
    return done.stdout


def _key(directory: Path, compiler: Sequence[str], version: str) -> str:
    """Differs whenever the library might: by sources, compiler, flags, CPU, C library."""
    digest = hashlib.sha256()
    for path in sorted(directory.iterdir()):
        if path.is_file():
            digest.update(f"{path.name} {path.stat().st_size}\n".encode() + path.read_bytes())
    for part in (compiler, version, FLAGS, TUNINGS, _processor(), platform.libc_ver()):
        digest.update(f"{part}\n".encode())
    return digest.hexdigest()[:32]


@cache
def _processor() -> str:
    """What the CPU can do, in the system's words."""
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        kinds = ("flags", "Features", "model name", "isa")
        return "\n".join(sorted({line for line in lines if line.startswith(kinds)}))
    return f"{platform.machine()} {platform.processor()}"


def _cache() -> Path:
    """The user's cache directory. Raises OSError where there is none."""
    named = os.environ.get("XDG_CACHE_HOME", "")
    try:
        place = Path(named) if Path(named).is_absolute() else Path.home() / ".cache"
    except RuntimeError as error:
        raise OSError(str(error)) from None
    return place / "seqtoolkit"


@contextlib.contextmanager
def _workplace() -> Iterator[Path]:
    """A directory to build in, on the cache's file system if it can be; it does not outlive the build."""
    parent: Path | None = None
    with contextlib.suppress(OSError):
        parent = _cache()
        parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _sweep(parent)
    try:
        place = tempfile.TemporaryDirectory(prefix="build-", dir=parent)
    except OSError:
        try:
            place = tempfile.TemporaryDirectory(prefix="seqtoolkit-")
        except OSError as error:
            raise BuildError(f"finds no directory to build in: {error.strerror}") from None
    with place as name:
        try:
            yield Path(name)
        except OSError as error:
            raise BuildError(f"cannot build in {name}: {error.strerror or error}") from None


def _sweep(parent: Path) -> None:
    """Remove what builds that were killed have left."""
    for left in parent.glob("build-*"):
        if time.time() - left.stat().st_mtime > STALE:
            shutil.rmtree(left, ignore_errors=True)


def _sealed(library: bytes) -> bytes:
    """With its digest at its end, where loaders do not look: half of a file must not be opened."""
    return library + hashlib.sha256(library).digest()


def _whole(library: Path) -> bool:
    """Whether a library is there, from its first byte to its last."""
    try:
        content = library.read_bytes()
    except OSError:
        return False
    return _sealed(content[:-DIGEST]) == content


def _open(path: Path) -> ctypes.CDLL:
    try:
        return ctypes.CDLL(str(path))
    except OSError as error:
        raise BuildError(f"cannot open what was built: {error}") from None
