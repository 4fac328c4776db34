"""The loop: what is logged, evaluated and saved when, and that a run that was stopped ends as if it had not been."""

import itertools
import math
import random
import signal
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path

import pytest
import torch

from seqtoolkit.train.checkpoint import CheckpointError, Checkpoints, load_state, load_weights
from seqtoolkit.train.measure import MEASURED
from seqtoolkit.train.optimize import sgd
from seqtoolkit.train.stop import Stop


def _restore(fit):
    """Give a new run the last checkpoint of its folder."""
    last = fit.checkpoints.find("last")
    fit.learner.model.load_state_dict(load_weights(last))
    fit.load_state_dict(load_state(last))
    return fit


def _same(left, right):
    """Whether two nests are equal, bit for bit."""
    if isinstance(left, torch.Tensor):
        return left.dtype == right.dtype and torch.equal(
            left.flatten().view(torch.uint8), right.flatten().view(torch.uint8)
        )
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(_same(left[key], right[key]) for key in left)
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(_same, left, right))
    return left == right or (left != left and right != right)  # noqa: PLR0124  nan


def _ends_alike(one, other):
    """Whether two folders hold the same last and best checkpoints, bit for bit."""
    for name in ("last", "best"):
        left, right = Checkpoints(one).find(name), Checkpoints(other).find(name)
        assert left.name == right.name
        assert _same(load_weights(left), load_weights(right))
        assert _same({**load_state(left), "clock": 0}, {**load_state(right), "clock": 0})


def _stop_at(fit, step):
    """Ask a run to stop, as Ctrl-C does, while it takes an update."""
    take = fit.learner.step

    def learn(batch):
        if fit.step + 1 == step:
            signal.raise_signal(signal.SIGINT)
        return take(batch)

    fit.learner.step = learn
    return fit


def _values(witness):
    """What was recorded, but for what the machine took."""
    logs = [(step, {name: v for name, v in metrics.items() if name not in MEASURED}) for step, metrics in witness.logs]
    return logs, witness.evaluations


SETTINGS = {
    "plain": {},
    "curriculum": {"source": "Rising"},
    "decoder": {"decoding": "teacher_forcing", "decoder": "separate", "learner": {"accumulate": 3}},
    "momentum": {"learner": {"optimizer": partial(sgd, lr=0.5, momentum=0.9), "precision": "bf16"}},
}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("setting", SETTINGS)
def test_a_stopped_run_ends_as_one_that_was_not(toy, tmp_path, setting, seed):
    """Stopped two times at random steps and resumed each time, a run logs, evaluates, saves and ends the same.

    Weights, optimizer, schedule, stream, curriculum, random numbers and best score are equal, bit for bit.
    """

    def make(folder):
        options = dict(SETTINGS[setting])
        source = getattr(toy, options.pop("source", "Echo"))(seed)
        witness = toy.Witness()
        return toy.fit(tmp_path / folder, seed=seed, source=source, relay=witness, **options), witness

    whole, wanted = make("whole")
    assert whole() == "FINISHED"
    stops = sorted(random.Random(f"{setting}{seed}").sample(range(1, 20), 2))
    found = []
    for stop in (*stops, 20):
        fit, witness = make("parts")
        if found:
            _restore(fit)
            torch.rand(3)  # whatever was drawn since
            fit.load_state_dict(load_state(fit.checkpoints.find("last")))
        status = _stop_at(fit, stop)() if stop < 20 else fit()
        assert (status, fit.step) == ("KILLED" if stop < 20 else "FINISHED", stop)
        found.append(witness)
    _ends_alike(tmp_path / "whole", tmp_path / "parts")
    assert fit.latest == whole.latest
    for one, parts in zip(_values(wanted), zip(*map(_values, found), strict=True), strict=True):
        assert [each for part in parts for each in part] == one


SCRIPT = """
import os, random, runpy, signal, sys, time
import torch
torch.set_num_threads(1)
toy = runpy.run_path(sys.argv[1])
Checkpoints, partial = toy["Checkpoints"], toy["partial"]
from seqtoolkit.train.checkpoint import load_state, load_weights

def train(folder):
    fit = toy["make_fit"](folder, source=toy["Rising"](0), run={"steps": 60, "checkpoint_every": 4}, evaluate={"every": 15})
    last = fit.checkpoints.find("last")
    if last is not None:
        fit.learner.model.load_state_dict(load_weights(last))
        fit.load_state_dict(load_state(last))
    return fit()

torch.optim.Adam([torch.zeros(1, requires_grad=True)])  # imports what takes long
chance, kills = random.Random(int(sys.argv[3])), 0
while True:
    child = os.fork()
    if not child:
        os._exit(0 if train(sys.argv[2]) == "FINISHED" else 3)
    until = time.monotonic() + chance.uniform(0.02, 0.4)
    while time.monotonic() < until:
        if os.waitpid(child, os.WNOHANG)[0]:
            print(kills)
            sys.exit()
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0:
        print(kills)
        sys.exit()
    kills += 1
"""


def test_killed_at_random_moments(toy, tmp_path):
    """A process that is killed with SIGKILL again and again, and started again, ends with the weights of one that is not."""
    settings = {"run": {"steps": 60, "checkpoint_every": 4}, "evaluate": {"every": 15}}
    assert toy.fit(tmp_path / "whole", source=toy.Rising(0), **settings)() == "FINISHED"
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    conftest = Path(__file__).with_name("conftest.py")
    command = [sys.executable, str(script), str(conftest), str(tmp_path / "parts"), "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 0, "it was killed at least once"
    _ends_alike(tmp_path / "whole", tmp_path / "parts")


def test_stop_asks_then_raises():
    """The first Ctrl-C or SIGTERM is a wish, the next is at once; afterwards handlers are as they were."""
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with Stop() as stop:
        assert not stop.asked
        signal.raise_signal(signal.SIGTERM)
        assert stop.asked
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_stop_on_another_thread():
    """Only the main thread may handle signals; elsewhere there is nothing to ask, and no error."""
    seen = []

    def wait():
        with Stop() as stop:
            seen.append(stop.asked)

    thread = threading.Thread(target=wait)
    thread.start()
    thread.join()
    assert seen == [False]


def test_a_second_interrupt_ends_at_once(toy, tmp_path):
    """Asked twice within an update the run ends there with KeyboardInterrupt, earlier checkpoints whole."""
    former = signal.getsignal(signal.SIGINT)
    fit = toy.fit(tmp_path)
    take = fit.learner.step

    def learn(batch):
        if fit.step == 9:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
        return take(batch)

    fit.learner.step = learn
    with pytest.raises(KeyboardInterrupt):
        fit()
    assert fit.checkpoints.find().name == "step_00000007"
    load_state(fit.checkpoints.find())
    assert signal.getsignal(signal.SIGINT) is former


@pytest.mark.parametrize("step", [6, 20])
def test_an_evaluation_cut_short_is_made_up_for(toy, tmp_path, step):
    """A stop while a run is evaluated ends it soon and without a result; resumed, it is evaluated first."""
    whole = toy.fit(tmp_path / "whole")
    whole()
    fit = _stop_at(toy.fit(tmp_path / "parts"), step)
    assert fit() == "KILLED"
    assert all(each[0] != step for each in fit.relay.evaluations)
    assert not any(name == f"step_{step:08d}" and best for _, name, best in fit.relay.saves)
    again = _restore(toy.fit(tmp_path / "parts"))
    assert again() == "FINISHED"
    assert fit.relay.evaluations + again.relay.evaluations == whole.relay.evaluations
    _ends_alike(tmp_path / "whole", tmp_path / "parts")
    third = _restore(toy.fit(tmp_path / "parts"))
    assert third() == "FINISHED"
    assert (third.relay.evaluations, third.relay.saves, third.latest) == ([], [], whole.latest)


def test_what_happens_when(toy, tmp_path):
    """Logs, evaluations and checkpoints at their intervals and after the last update, each once."""
    fit = toy.fit(tmp_path, run={"steps": 17, "log_every": 4, "checkpoint_every": 5}, evaluate={"every": 8})
    fit()
    assert [step for step, _ in fit.relay.logs] == [4, 8, 12, 16, 17]
    assert [step for step, _ in fit.relay.evaluations] == [8, 16, 17]
    saved = [step for step, _, _ in fit.relay.saves]
    assert len(set(saved)) == len(saved)
    assert {5, 10, 15, 17} <= set(saved) <= {5, 8, 10, 15, 16, 17}
    assert 8 in saved, "the first evaluation is the best so far"
    assert all(len(samples) == 2 for samples in fit.relay.samples)
    assert fit.latest == fit.relay.evaluations[-1][1]
    assert set(fit.latest) == {"valid/loss", "valid/accuracy", "valid/sequence_accuracy"}
    never = toy.fit(tmp_path / "never", run={"checkpoint_every": 0}, evaluate={"every": 0})
    never()
    assert [step for step, _ in never.relay.evaluations] == [step for step, *_ in never.relay.saves] == [20]


def test_training_metrics_are_averages(toy, tmp_path):
    """Each log has the loss and the like averaged since the last, metrics by their sums, and a rate above 0."""
    fit, told = toy.fit(tmp_path, run={"steps": 7, "log_every": 3}), []
    take = fit.learner.step
    fit.learner.step = lambda batch: told.append(take(batch)) or told[-1]
    fit()
    names = ("loss", "gradient_norm", "learning_rate", "accuracy", "sequence_accuracy")
    for (_, metrics), window in zip(fit.relay.logs, (told[:3], told[3:6], told[6:]), strict=True):
        assert set(metrics) == {*(f"train/{name}" for name in names), *MEASURED, "examples"}
        for name in names[:3]:
            mean = sum(float(each[name]) for each in window) / len(window)
            assert metrics[f"train/{name}"] == pytest.approx(mean, rel=1e-12)
        for name in names[3:]:
            right, count = sum(each[name] for each in window).tolist()
            assert metrics[f"train/{name}"] == right / count
        assert metrics["examples_per_second"] > 0


@pytest.mark.parametrize(("name", "sign"), [("loss", -1), ("accuracy", 1), (None, 1), ("sequence_accuracy", 1)])
def test_best_is_by_the_direction_of_its_metric(toy, tmp_path, name, sign):
    """The best checkpoint has the lowest loss, or the highest of a metric that is better when higher; the first of equals."""
    fit = toy.fit(tmp_path, run={"keep_every": 1, "steps": 30}, evaluate={"best": name, "every": 3})
    found = iter([3.0, math.nan, 2.0, 4.0, 4.0, 1.0, 1.0, 3.5, 0.5, 0.5])
    measure = fit.evaluation

    def evaluation(update, stopped):
        value = next(found)
        result = measure(update, stopped)
        return result._replace(metrics=dict.fromkeys(result.metrics, value))

    evaluation.origin = measure.origin
    fit.evaluation = evaluation
    fit()
    wanted = {-1: [3, 9, 18, 27], 1: [3, 12]}[sign]
    assert [step for step, _, best in fit.relay.saves if best] == wanted
    assert fit.checkpoints.find("best").name == f"step_{wanted[-1]:08d}"
    assert fit.best == {-1: 0.5, 1: 4.0}[sign]


def test_evaluation_changes_nothing(toy, tmp_path):
    """Weights after training are the same however often a run is evaluated, logged or saved."""
    often = toy.fit(
        tmp_path / "often", run={"log_every": 1, "checkpoint_every": 1}, evaluate={"every": 1, "samples": 0}
    )
    often()
    seldom = toy.fit(tmp_path / "seldom", run={"log_every": 20, "checkpoint_every": 0}, evaluate={"every": 0})
    seldom()
    assert _same(often.learner.model.state_dict(), seldom.learner.model.state_dict())
    assert _same(often.learner.state_dict(), seldom.learner.state_dict())


def test_a_loss_that_is_no_number(toy, tmp_path):
    """Training that diverges goes on, with one warning a log that says what to try."""
    fit = toy.fit(tmp_path, run={"log_every": 5})
    take = fit.learner.step

    def learn(batch):
        told = take(batch)
        return told | {"loss": told["loss"] * math.nan} if fit.step == 7 else told

    fit.learner.step = learn
    assert fit() == "FINISHED"
    assert fit.relay.warnings == ["step 10: the loss is nan; try a smaller lr, or learner.clip"]


def _refusing(fit, steps):
    """A disk that is full at these saves."""
    save, tries = fit.checkpoints.save, []

    def refuse(step, *given, **options):
        tries.append(step)
        if len(tries) in steps:
            raise CheckpointError(f"the checkpoint of step {step} could not be saved to here: No space left on device")
        return save(step, *given, **options)

    fit.checkpoints.save = refuse
    return fit


def test_a_save_that_fails_on_the_way(toy, tmp_path):
    """It is a warning, training goes on, and the next save is made; a best that was not saved does not count as one."""
    settings = {"run": {"checkpoint_every": 5}, "evaluate": {"every": 10, "best": "loss"}}
    whole = toy.fit(tmp_path / "whole", **settings)
    whole()
    fit = _refusing(toy.fit(tmp_path / "parts", **settings), {1, 2})
    assert fit() == "FINISHED"
    wanted = "the checkpoint of step {} could not be saved to here: No space left on device; training goes on, earlier"
    assert len(fit.relay.warnings) == 2
    assert all(told.startswith(wanted.format(step)) for told, step in zip(fit.relay.warnings, (5, 10), strict=True))
    assert [step for step, *_ in fit.relay.saves] == [15, 20]
    assert fit.relay.saves[-1] == (20, "step_00000020", True)
    assert _same(load_weights(fit.checkpoints.find()), load_weights(whole.checkpoints.find()))


def test_a_failed_best_can_be_won_by_a_lesser(toy, tmp_path):
    """The score to beat is that of the best checkpoint on the disk, not of one that was never written."""
    fit = _refusing(toy.fit(tmp_path, run={"checkpoint_every": 0}, evaluate={"every": 5, "best": "loss"}), {2})
    found = iter([3.0, 1.0, 2.0, 2.5])
    measure = fit.evaluation

    def evaluation(update, stopped):
        return measure(update, stopped)._replace(metrics={"valid/loss": next(found)})

    evaluation.origin = measure.origin
    fit.evaluation = evaluation
    fit()
    assert [(step, best) for step, _, best in fit.relay.saves] == [(5, True), (15, True), (20, False)]
    assert fit.best == 2.0


def test_the_last_save_is_tried_again_and_then_raises(toy, tmp_path):
    """What cannot be saved at the end is an error, not a warning; if only the first try failed, nothing is lost."""
    settings = {"run": {"checkpoint_every": 20}, "evaluate": {"every": 0}}
    with pytest.raises(CheckpointError, match="step 20 could not be saved"):
        _refusing(toy.fit(tmp_path / "a", **settings), {1, 2})()
    fit = _refusing(toy.fit(tmp_path / "b", **settings), {1})
    assert fit() == "FINISHED"
    assert fit.relay.saves == [(20, "step_00000020", True)]
    assert load_state(fit.checkpoints.find("best"))["loop"]["best"] == fit.best is not None


def test_an_error_of_the_source_ends_the_run_as_itself(toy, tmp_path):
    """It is not wrapped, and what was saved before stays."""

    class Broken(toy.Echo):
        def draw(self, indexes):
            if indexes[0] >= 80:
                raise ValueError("nesting: too deep")
            return super().draw(indexes)

    fit = toy.fit(tmp_path, source=Broken(0))
    with pytest.raises(ValueError, match=r"^nesting: too deep$"):
        fit()
    assert fit.step == 10
    assert fit.checkpoints.find().name == "step_00000007"


def test_more_steps_after_the_end(toy, tmp_path):
    """A finished run with more steps goes on from its end; with as many it is finished."""
    toy.fit(tmp_path, learner={"schedule": lambda step, steps: 1.0})()
    longer = {"run": {"steps": 30}, "learner": {"schedule": lambda step, steps: 1.0}}
    fit = _restore(toy.fit(tmp_path, **longer))
    assert fit() == "FINISHED"
    assert [step for step, _ in fit.relay.logs] == [25, 30]
    whole = toy.fit(tmp_path / "whole", **longer)
    whole()
    assert _same(load_weights(fit.checkpoints.find()), load_weights(whole.checkpoints.find()))


def test_what_training_has_taken(toy, tmp_path):
    """Each log and evaluation says how many examples all updates so far had, and seconds that only rise."""
    fit = toy.fit(tmp_path, run={"steps": 17, "log_every": 4}, evaluate={"every": 8})
    fit()
    size = fit.window.examples / 17
    rows = fit.relay.logs + fit.relay.taken
    assert all(metrics["examples"] == size * step for step, metrics in rows)
    seconds = [metrics["seconds"] for _, metrics in sorted(rows, key=lambda row: row[0])]
    assert seconds == sorted(seconds)
    assert seconds[0] > 0


def test_seconds_leave_evaluations_out_and_go_on(toy, tmp_path, monkeypatch):
    """Seconds are those of training: none of an evaluation's, and a resumed run counts on from where it stood."""
    clock = itertools.count()
    now = [0.0]
    monkeypatch.setattr("seqtoolkit.train.window.time.monotonic", lambda: now[0])
    fit = toy.fit(tmp_path, run={"steps": 6, "log_every": 1}, evaluate={"every": 2})
    take, measure = fit.learner.step, fit.evaluation

    def learn(batch):
        now[0] += 1.0
        return take(batch)

    def evaluation(update, stopped):
        now[0] += 100.0 + next(clock)
        return measure(update, stopped)

    evaluation.origin = measure.origin
    fit.learner.step, fit.evaluation = learn, evaluation
    fit()
    assert [metrics["seconds"] for _, metrics in fit.relay.logs] == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    assert [metrics["examples_per_second"] for _, metrics in fit.relay.logs] == [fit.window.examples / 6] * 6
    again = _restore(toy.fit(tmp_path, run={"steps": 7, "log_every": 1}))
    again()
    assert again.relay.logs[0][1]["seconds"] == 6.0


def test_time_limit_ends_a_run(toy, tmp_path, monkeypatch):
    """After so many seconds of training a run ends as at its last step: logged, evaluated and saved; its reason is said."""
    now = [0.0]
    monkeypatch.setattr("seqtoolkit.train.window.time.monotonic", lambda: now[0])
    fit = toy.fit(tmp_path, run={"time_limit": 4.5, "log_every": 50}, evaluate={"every": 0})
    take = fit.learner.step
    fit.learner.step = lambda batch: (now.__setitem__(0, now[0] + 1.0), take(batch))[1]
    assert fit() == "FINISHED"
    assert fit.step == 5
    assert [step for step, _ in fit.relay.logs] == [step for step, _ in fit.relay.evaluations] == [5]
    assert fit.checkpoints.find("last").name == "step_00000005"
    assert fit.stop.reason == "run.time_limit: 4.5 seconds of training are over"


def _scored(fit, values):
    """A run whose evaluations find these values, one after the other."""
    measure, found = fit.evaluation, iter(values)

    def evaluation(update, stopped):
        result = measure(update, stopped)
        return None if result is None else result._replace(metrics=dict.fromkeys(result.metrics, next(found)))

    evaluation.origin = measure.origin
    fit.evaluation = evaluation
    return fit


@pytest.mark.parametrize(
    ("values", "patience", "ends"),
    [
        ([0.1, 0.2, 0.2, 0.1, 0.3], 2, 12),  # none of two was better than 0.2
        ([0.1, 0.2, 0.2, 0.3, 0.1, math.nan], 2, 18),
        ([0.5, 0.4, 0.3, 0.2, 0.1, 0.1, 0.1], 0, 20),  # never
        ([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7], 1, 20),
        ([math.nan, math.nan, math.nan], 3, 9),
        ([0.5, 0.4, 0.3, 0.2, 0.1, 0.1, 0.1], 6, 20),  # it would be lost at the last step, where the run ends anyway
    ],
)
def test_patience_ends_a_run(toy, tmp_path, values, patience, ends):
    """A run ends at the evaluation that makes `patience` in a row no better than the best before them; ties are no better."""
    fit = _scored(toy.fit(tmp_path, evaluate={"every": 3, "patience": patience}), values)
    assert fit() == "FINISHED"
    assert fit.step == ends
    assert fit.checkpoints.find("last").name == f"step_{ends:08d}"
    assert fit.stop.asked == (ends < 20)
    known = [value for value in values[: ends // 3] if not math.isnan(value)]
    what = f"was no better than {max(known)}" if known else "was no number"
    assert fit.stop.reason in (None, f"evaluate.patience: valid/accuracy {what} in {patience} evaluations")


def test_patience_is_kept_over_a_resumption(toy, tmp_path):
    """A run that was stopped between evaluations goes on with the count it had, and ends where an unbroken one does."""
    values = [0.1, 0.3, 0.2, 0.2, 0.2, 0.2]
    whole = _scored(toy.fit(tmp_path / "whole", evaluate={"every": 3, "patience": 3}), values)
    whole()
    part = _stop_at(_scored(toy.fit(tmp_path / "parts", evaluate={"every": 3, "patience": 3}), values), 11)
    assert part() == "KILLED"
    again = _scored(_restore(toy.fit(tmp_path / "parts", evaluate={"every": 3, "patience": 3})), values[3:])
    again()
    assert whole.step == again.step == 15
    assert whole.stale == again.stale == 3
