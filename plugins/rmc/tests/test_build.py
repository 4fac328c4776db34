"""Building on first use: the cache, what may be wrong with it, and every way in which there is no library to be had."""

from __future__ import annotations

import ctypes
import os
import shutil
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from seqtoolkit_rmc.kernels import build

COMPILER = next((path for name in build.COMPILERS if (path := shutil.which(name))), None)
compiled = pytest.mark.skipif(COMPILER is None, reason="there is no C++ compiler here")
ANSWER = '#include "answer.h"\nextern "C" int answer() { return ANSWER; }\n'


@pytest.fixture(autouse=True)
def places(tmp_path, monkeypatch):
    """A cache and a place for temporary files of their own; nothing remembered."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("CXX", raising=False)
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(build.tempfile, "tempdir", str(tmp_path / "temporary"))
    build.load.cache_clear()
    yield
    build.load.cache_clear()


@pytest.fixture
def sources(tmp_path):
    """A library of one function, and a header."""
    place = tmp_path / "sources"
    place.mkdir()
    (place / "answer.cpp").write_text(ANSWER)
    (place / "answer.h").write_text("#define ANSWER 42\n")
    return place


def kept(tmp_path: Path) -> list[Path]:
    """What is in the cache."""
    return sorted((tmp_path / "cache" / "seqtoolkit").glob("*"))


def command(path: Path, text: str) -> str:
    """A program of a few lines of shell, by its path."""
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def counting(tmp_path: Path) -> tuple[str, Path]:
    """A compiler that writes down each time it compiles, and where."""
    log = tmp_path / "log"
    text = f'case "$*" in *--version*) ;; *) echo compiled >> {log} ;; esac\nexec {COMPILER} "$@"'
    return command(tmp_path / "counting", text), log


def reason(sources: Path) -> str:
    """Why there is no library."""
    found = build.load(sources, "answer.cpp")
    assert isinstance(found, build.BuildError)
    assert "\n" not in str(found)
    return str(found)


def again(sources: Path) -> ctypes.CDLL:
    """Load as another process would, with nothing remembered."""
    build.load.cache_clear()
    found = build.load(sources, "answer.cpp")
    assert not isinstance(found, build.BuildError), found
    return found


@compiled
def test_builds_once(tmp_path, sources, monkeypatch):
    """The first use compiles; later ones, in this process or another, take what is kept."""
    cxx, log = counting(tmp_path)
    monkeypatch.setenv("CXX", cxx)
    library = build.load(sources, "answer.cpp")
    assert library.answer() == 42
    assert build.load(sources, "answer.cpp") is library
    assert again(sources).answer() == 42
    assert log.read_text() == "compiled\n"
    (only,) = kept(tmp_path)
    assert stat.S_IMODE(only.parent.stat().st_mode) == 0o700


@compiled
@pytest.mark.parametrize("what", ["header", "compiler", "processor", "flags"])
def test_builds_anew(tmp_path, sources, monkeypatch, what):
    """Another source, compiler, CPU or flag is another library, beside the first."""
    assert again(sources).answer() == 42
    if what == "header":
        (sources / "answer.h").write_text("#define ANSWER 43\n")
    elif what == "compiler":
        monkeypatch.setenv("CXX", command(tmp_path / "other", f'exec {COMPILER} "$@"'))
    elif what == "processor":
        monkeypatch.setattr(build, "_processor", lambda: "flags: other")
    else:
        monkeypatch.setattr(build, "FLAGS", (*build.FLAGS, "-DOTHER"))
    assert again(sources).answer() == (43 if what == "header" else 42)
    assert len(kept(tmp_path)) == 2


@compiled
@pytest.mark.parametrize("length", [0, 10, 40, 5000, -1])
def test_half_a_file_is_not_opened(tmp_path, sources, length):
    """A library cut short anywhere, by one byte even, is built anew, and the next use takes the new one."""
    again(sources)
    (only,) = kept(tmp_path)
    whole = only.read_bytes()
    only.unlink()
    only.write_bytes(whole[:length])
    assert again(sources).answer() == 42
    assert build._whole(only)


@compiled
def test_a_changed_file_is_not_opened(tmp_path, sources):
    """Nor is one in which a byte has changed."""
    again(sources)
    (only,) = kept(tmp_path)
    content = bytearray(only.read_bytes())
    content[len(content) // 2] ^= 1
    only.unlink()
    only.write_bytes(content)
    assert again(sources).answer() == 42
    assert build._whole(only)


@compiled
def test_builds_at_once(tmp_path, sources, monkeypatch):
    """Several processes that build at the same time all get the library, and leave one and nothing else."""
    monkeypatch.setenv("CXX", command(tmp_path / "slow", f'sleep 0.2\nexec {COMPILER} "$@"'))
    program = (
        "import sys; from pathlib import Path; from seqtoolkit_rmc.kernels.build import load;"
        f"sys.exit(load(Path({str(sources)!r}), 'answer.cpp').answer())"
    )
    running = [subprocess.Popen([sys.executable, "-c", program]) for _ in range(3)]
    assert [each.wait(60) for each in running] == [42] * 3
    assert len(kept(tmp_path)) == 1


@compiled
def test_killed_builds_are_swept(tmp_path, sources):
    """What a killed build has left does no harm, and is gone an hour later; one that may be running is let be."""
    place = tmp_path / "cache" / "seqtoolkit"
    for name, age in (("build-old", 2 * build.STALE), ("build-new", 0)):
        (place / name).mkdir(parents=True)
        (place / name / "half.so").write_bytes(b"half")
        os.utime(place / name, (time.time() - age,) * 2)
    assert again(sources).answer() == 42
    assert [path.name for path in kept(tmp_path) if path.is_dir()] == ["build-new"]


@compiled
@pytest.mark.parametrize("cache", ["a file", "read only", "no home"])
def test_no_cache(tmp_path, sources, monkeypatch, cache):
    """Where nothing can be kept it is built all the same, and no trace is left."""
    if cache == "a file":
        (tmp_path / "cache").write_text("in the way")
    elif cache == "read only":
        monkeypatch.setattr(Path, "mkdir", _denied)
    else:
        monkeypatch.delenv("XDG_CACHE_HOME")
        monkeypatch.setattr(Path, "home", _homeless)
    assert again(sources).answer() == 42
    assert not list((tmp_path / "temporary").iterdir())


def _denied(*_: object, **__: object) -> None:
    raise PermissionError(13, "Permission denied")


def _homeless() -> Path:
    raise RuntimeError("Could not determine home directory.")


@compiled
def test_nowhere_to_build(tmp_path, sources, monkeypatch):
    """No cache and no temporary directory: it says so."""
    (tmp_path / "cache").write_text("in the way")
    monkeypatch.setattr(build.tempfile, "tempdir", str(tmp_path / "nowhere"))
    assert "finds no directory to build in: No such file or directory" in reason(sources)


def test_no_compiler(sources, monkeypatch):
    """Without a compiler it says what was looked for."""
    monkeypatch.setenv("PATH", "")
    assert reason(sources) == "wants a C++ compiler, found none of c++, g++, clang++"


@pytest.mark.parametrize(
    ("cxx", "says"),
    [
        ("/nowhere/c++ -O2", "wants a C++ compiler, found no '/nowhere/c++', which CXX names"),
        ("'c++", 'cannot read the compiler that CXX names, "\'c++": No closing quotation'),
    ],
)
def test_no_such_compiler(sources, monkeypatch, cxx, says):
    """A compiler that is asked for and not there is not replaced by another."""
    monkeypatch.setenv("CXX", cxx)
    assert reason(sources) == says


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("echo broken >&2; exit 3", "fails at --version (exit status 3): broken"),
        ('case "$*" in *--version*) ;; *) echo "x.cpp:1: error: no" >&2; exit 1 ;; esac', "x.cpp:1: error: no"),
        ('case "$*" in *--version*) ;; *) exit 1 ;; esac', "fails at answer.cpp (exit status 1): it does not say why"),
        ("exit 0", "cannot build in"),
        (
            'for last; do :; done\ncase "$*" in *--version*) ;; *) echo no > "$last" ;; esac',
            "cannot open what was built",
        ),
        ('case "$*" in *--version*) ;; *) sleep 9 ;; esac', "had not finished answer.cpp after 1 seconds"),
    ],
)
def test_broken_compiler(tmp_path, sources, monkeypatch, text, says):
    """A compiler that fails, writes nothing, writes nonsense or never ends: a clause, and it is not asked again."""
    log = tmp_path / "log"
    monkeypatch.setattr(build, "PATIENCE", 1.0)
    monkeypatch.setenv("CXX", command(tmp_path / "broken", f"echo asked >> {log}\n{text}"))
    assert says in reason(sources)
    asked = log.read_text()
    assert says in reason(sources)
    assert log.read_text() == asked
    assert not [path for path in kept(tmp_path) if path.suffix == ".so"]


@compiled
def test_not_tuned(tmp_path, sources, monkeypatch):
    """A compiler that does not know -march=native builds without it."""
    text = f'case "$*" in *-march=native*) echo "error: unknown" >&2; exit 1 ;; esac\nexec {COMPILER} "$@"'
    monkeypatch.setenv("CXX", command(tmp_path / "plain", text))
    assert again(sources).answer() == 42


@compiled
def test_options_in_the_name(tmp_path, sources, monkeypatch):
    """CXX may hold a launcher or options beside the compiler."""
    (sources / "answer.h").unlink()
    monkeypatch.setenv("CXX", f"env {COMPILER} -include {command(tmp_path / 'answer.h', '')}")
    (tmp_path / "answer.h").write_text("#define ANSWER 7\n")
    (sources / "answer.h").write_text("")
    assert again(sources).answer() == 7
