"""The command line, as a person types it: what it prints, where, and with which exit code."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["program_eva"], r"no pipeline 'program_eva'.*program_eval"),
        (["nowhere.yaml"], r"nowhere\.yaml"),
        ([".", "a=1"], r"folder"),
        (["empty.yaml"], r"empty\.yaml.*empty"),
        (["broken.yaml"], r"broken\.yaml:2:6"),
        (["list.yaml"], r"list\.yaml: wanted keys"),
        (["program_eval", "model.core=rcm"], r"model\.core.*'rcm'.*rmc"),
        (["program_eval", "model.core.mem_slot=2"], r"model\.core\.mem_slot\b.*mem_slots"),
        (["program_eval", "run.steps=soon"], r"run\.steps.*soon"),
        (["program_eval", "source.curriculum=hard"], r"source\.curriculum.*baseline.*hard"),
        (["program_eval", "source.problem=divide"], r"source\.problem.*divide"),
        (["program_eval", "nonsense"], r"nonsense.*key=value"),
        (["program_eval", "model.encoder=linear"], r"model\.encoder"),
        (["program_eval", "source.grammar=bad.lark"], r"source\.grammar.*bad\.lark"),
        (["program_eval", "source.grammar=missing.lark"], r"source\.grammar.*missing\.lark"),
        (["program_eval", "source.length=0"], r"source\.length"),
    ],
)
@pytest.mark.parametrize("command", ["run", "check"])
def test_a_users_mistake_is_a_line_with_its_key_and_exit_code_2(type_in, tmp_path, command, words, wanted):
    """Every kind of wrong input is answered on stderr, in lines that say what and where, with nothing written."""
    (tmp_path / "empty.yaml").touch()
    (tmp_path / "broken.yaml").write_text("source: {use: program_eval\nmodel: core: rmc\n")
    (tmp_path / "list.yaml").write_text("- 1\n")
    (tmp_path / "bad.lark").write_text("start: (\n")
    code, out, err = type_in(command, *words)
    assert code == 2
    assert out == ""
    assert all(line.startswith("seqtoolkit: ") for line in err.splitlines())
    assert re.search(wanted, err, re.IGNORECASE), err
    assert not (tmp_path / "runs").exists()


def test_all_problems_are_told_at_once(type_in):
    """Three mistakes are three lines."""
    code, _, err = type_in("check", "program_eval", "run.steps=x", "model.core.mem_slot=1", "loss=hope")
    assert code == 2
    assert [line.split(": ")[1] for line in err.splitlines()] == ["model.core.mem_slot", "loss", "run.steps"]


def test_check_prints_the_graph_and_draws_it(type_in, tmp_path):
    """The table has a row a stage and the parameter count; --graph writes SVG or Mermaid by the file's ending."""
    code, out, _ = type_in("check", "program_eval", "--graph", "g.svg")
    assert code == 0
    for word in ("source", "batch", "model.encoder", "model.core", "model.head", "loss", "metric.0", "parameters"):
        assert word in out
    assert (tmp_path / "g.svg").read_text().startswith("<svg")
    type_in("check", "program_eval", "--graph", "g.mmd")
    assert (tmp_path / "g.mmd").read_text().startswith("flowchart")
    code, _, err = type_in("check", "program_eval", "--graph", "g.gif")
    assert (code, "g.gif" in err) == (2, True)


def test_a_dry_run_times_every_stage_and_leaves_nothing(type_in, tmp_path):
    """One update on a tiny batch: a time a stage, no run, no database."""
    code, out, _ = type_in("check", "program_eval", "--dry-run")
    assert code == 0
    for stage in ("source", "batch", "model.encoder", "model.core", "model.head", "loss", "backward", "step"):
        assert re.search(rf"^{re.escape(stage)} +[\d.]+ ms$", out, re.MULTILINE), stage
    assert not list(tmp_path.iterdir())


def test_a_pipeline_is_listed_for_programs(type_in):
    """With --json, check has the rows of the table, the parameters as numbers, and the times of a dry run where one was made."""
    _, table, _ = type_in("check", "program_eval")
    code, out, _ = type_in("check", "program_eval", "--json")
    found = json.loads(out)
    assert (code, "seconds" in found) == (0, False)
    rows = table.splitlines()[2:-1]
    assert len(rows) == len(found["stages"])
    for row, stage in zip(rows, found["stages"], strict=True):
        assert row.split()[:2] == [stage["key"], stage["part"]]
        assert all(stage[name] in row for name in ("reads", "writes"))
    assert f"{found['parameters']:,} parameters" == table.splitlines()[-1]
    assert sum(stage["parameters"] for stage in found["stages"]) == found["parameters"]
    _, out, _ = type_in("check", "program_eval", "--dry-run", "--json", "--graph", "g.svg")
    assert {"source", "model.core", "backward"} <= json.loads(out)["seconds"].keys()


def test_every_older_listing_is_there_for_programs(type_in, tmp_path):
    """Pipelines, parts and deliveries as JSON say what they say to people."""
    _, table, _ = type_in("pipelines")
    found = json.loads(type_in("pipelines", "--json")[1])
    assert [each["name"] for each in found] == [line.split()[0] for line in table.splitlines()[1:] if line[:1].strip()]
    assert all(Path(each["path"]).is_file() and each["distribution"] for each in found)
    part = json.loads(type_in("plugins", "show", "core:lstm", "--json")[1])
    assert (part["kind"], part["name"], part["distribution"]) == ("core", "lstm", "seqtoolkit-lstm")
    (size,) = [each for each in part["parameters"] if each["name"] == "hidden_size"]
    assert (size["type"], size["required"], isinstance(size["default"], int)) == ("int", False, True)
    learner = json.loads(type_in("plugins", "show", "supervised", "--json")[1])
    capture = next(each for each in learner["parameters"] if each["name"] == "capture")
    assert capture["choices"] == ["auto", "always", "never"]
    assert next(each for each in learner["parameters"] if each["name"] == "optimizer")["default"] == "adam"
    (tmp_path / "runs").mkdir()
    assert json.loads(type_in("deliver", "--json")[1]) == {"undelivered": 0, "folder": "runs"}


def test_a_run_ends_with_a_summary_and_can_be_resumed(tiny, type_in):
    """The summary names metrics, run and checkpoint; --resume with more steps goes on."""
    code, out, _ = type_in("run", "program_eval", *tiny)
    assert code == 0
    assert "test/accuracy" in out
    run = re.search(r"^run +(\S+) \(FINISHED\)$", out, re.MULTILINE)[1]
    code, out, _ = type_in("run", "--resume", run, "run.steps=8")
    assert code == 0
    assert "step_00000008" in out
    code, out, _ = type_in("run", "--resume", run, "run.steps=9", "--json")
    found = json.loads(out)
    assert (code, found["status"], found["run_id"]) == (0, "FINISHED", run)
    assert Path(found["checkpoint"]).name == "step_00000009"
    assert "valid/accuracy" in found["metrics"]
    code, _, err = type_in("run", "--resume", run, "pipeline.yaml")
    assert (code, "pipeline.yaml" in err) == (2, True)


def test_a_run_cannot_be_kept_where_nothing_can_be_written(tiny, type_in, tmp_path):
    """A file in the way of the runs' folder is one line and exit code 2."""
    (tmp_path / "runs").write_text("in the way")
    code, _, err = type_in("run", "program_eval", *tiny)
    assert code == 2
    assert "runs" in err


def start(folder, *words):
    """A real `seqtoolkit run` in a process of its own."""
    command = [sys.executable, "-m", "seqtoolkit", "run", *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def wait_for(pattern, folder, process):
    """Wait until a file matching the pattern is there."""
    while not list(folder.glob(pattern)):
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


def test_ctrl_c_saves_and_says_how_to_go_on(tiny, tmp_path):
    """SIGINT ends a run between two updates: KILLED, a checkpoint, and the command that resumes it."""
    process = start(tmp_path, "program_eval", *tiny, "run.steps=4000", "evaluate.every=1000", "run.checkpoint_every=50")
    wait_for("runs/*/checkpoints/step_*/manifest.json", tmp_path, process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert "(KILLED)" in out
    command = re.search(r"^resume +seqtoolkit run --resume (\S+)$", out, re.MULTILINE)
    assert (tmp_path / "runs" / command[1]).is_dir()


def final_weights(folder):
    """The bytes of the last checkpoint's weights of the only run."""
    (run,) = (folder / "runs").iterdir()
    name = (run / "checkpoints" / "last").read_text().strip()
    return name, (run / "checkpoints" / name / "model.safetensors").read_bytes()


def test_a_run_killed_at_any_moment_ends_with_the_same_weights(tiny, tmp_path):
    """SIGKILL at random moments and --resume until done: bit for bit the weights of a run never stopped."""
    words = [
        "program_eval",
        *tiny,
        "run.steps=600",
        "evaluate.every=100",
        "run.checkpoint_every=20",
        "source.curriculum=combine",
    ]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir()
    killed.mkdir()
    process = start(whole, *words)
    assert process.wait(120) == 0, process.communicate()
    process = start(killed, *words)
    wait_for("runs/*/checkpoints/last", killed, process)
    for pause in (0.05, 0.31, 0.57):
        time.sleep(pause)
        process.kill()
        process.communicate()
        (run,) = (killed / "runs").iterdir()
        before = (run / "checkpoints" / "last").stat().st_mtime_ns
        process = start(killed, "--resume", run.name)
        with contextlib.suppress(AssertionError):  # it may be done
            while (run / "checkpoints" / "last").stat().st_mtime_ns == before and process.poll() is None:
                time.sleep(0.02)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert "step_00000600" in out
    assert final_weights(killed) == final_weights(whole)
