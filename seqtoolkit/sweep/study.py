"""Study: the Optuna study of a sweep: which trials there are, who takes the next one, what became of each."""

from __future__ import annotations

import random
import re
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, cast

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import DuplicatedStudyError, ExperimentalWarning, UpdateFinishedTrialError
from optuna.pruners import MedianPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, Trial, TrialState

from seqtoolkit.host.problem import cause
from seqtoolkit.sweep.row import Better
from seqtoolkit.sweep.space import Choice, Params, Range, Space
from seqtoolkit.train.tracking.lock import Lock, hold
from seqtoolkit.train.tracking.store import public

HEARTBEAT, GRACE = 30, 150
"""Seconds between two signs of life of a trial in a shared storage, and after which its machine is taken for dead."""
RETRIES = 2
"""How often a trial is begun anew whose machine has died."""
_FACTS = "seqtoolkit"
_FILLED = "seqtoolkit.filled"
_DIRECTION = {"higher": "maximize", "lower": "minimize"}

optuna.logging.set_verbosity(optuna.logging.WARNING)


class StorageError(ValueError):
    """The storage of a sweep cannot be used."""


class Exclusive:
    """The lock of a journal file, as Optuna takes and gives it; one that is held by a process dies with it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock: Lock | None = None

    def acquire(self) -> bool:
        """Wait for it."""
        while self._lock is None:
            self._lock = hold(self._path, wait=60.0)
        return True

    def release(self) -> None:
        """Give it back."""
        if self._lock is not None:
            self._lock.release()
        self._lock = None


def open_storage(where: str) -> BaseStorage:
    """The storage at a URL of SQLAlchemy's, or in a journal file. Raises StorageError, one line without a password."""
    if "://" not in where:
        path = Path(where)
        exclusive = Exclusive(path.with_name(f"{path.name}.lock"))
        exclusive.acquire()
        try:
            _mend(path)
        finally:
            exclusive.release()
        return JournalStorage(JournalFileBackend(where, lock_obj=cast("Any", exclusive)))
    options = {"connect_args": {"timeout": 60}} if where.startswith("sqlite") else {}
    for attempt in (1, 2, 3):
        try:
            with _calm():
                return RDBStorage(where, engine_kwargs=options, heartbeat_interval=HEARTBEAT, grace_period=GRACE)
        except Exception as error:  # noqa: BLE001  whatever a driver raises
            if attempt == 3 or "already exists" not in str(error):
                reason = re.sub(r"//[^/@\s]+@", "//", cause(error))
                raise StorageError(f"--storage {public(where)}: {reason}") from None
        time.sleep(1.0)  # another process is making the same tables
    raise AssertionError


def seat(name: str, where: str, number: int) -> Trial:
    """A trial that is running, as its own process reports to it."""
    storage = open_storage(where)
    study = optuna.load_study(study_name=name, storage=storage, sampler=RandomSampler(), pruner=MedianPruner())
    return Trial(study, _trial_id(storage, name, number))


class Study:
    """The trials of a sweep, in a storage that several processes may share.

    Args:
        name: The sweep's.
        where: A URL of SQLAlchemy's, or a journal file.
        space: What the trials go through.
        better: Which values are.
        search: How values are chosen that are not given.
        seed: From which they are drawn.
    """

    def __init__(self, name: str, where: str, space: Space, better: Better, search: str, seed: int) -> None:
        self.name, self.where, self.search, self.seed = name, where, search, seed
        self.distributions = {key: _distribution(axis) for key, axis in space.axes.items()}
        self.storage = open_storage(where)
        given = {
            "study_name": name,
            "storage": self.storage,
            "direction": _DIRECTION[better],
            "sampler": RandomSampler(),
        }
        self.fresh = True
        """Whether this process has made the study."""
        try:
            self._study = optuna.create_study(**given)  # type: ignore[arg-type]  # one dict for two calls
        except DuplicatedStudyError:
            self.fresh = False
            self._study = optuna.create_study(**given, load_if_exists=True)  # type: ignore[arg-type]
        self._beaten = 0.0

    def fill(self, wanted: list[Params]) -> None:
        """Have the trials `wanted` wait, those of them that are not there yet; {} is one whose values are chosen later.

        Where another process has made the study, it does this, unless it has died before it was done.
        """
        until = time.monotonic() + 20
        while not self.fresh and _FILLED not in self._study.user_attrs and time.monotonic() < until:
            time.sleep(0.2)
        known = self._study.user_attrs.get(_FILLED, 0)
        for params in wanted[known:]:
            self._study.enqueue_trial(dict(params), skip_if_exists=bool(params) and not self.fresh)
        if len(wanted) > known:
            self._study.set_user_attr(_FILLED, len(wanted))

    def trials(self, *states: TrialState) -> list[FrozenTrial]:
        """The trials in these states, or all, but for those that another one was begun anew for."""
        trials = self._study.get_trials(deepcopy=False)
        replaced = {facts(trial).get("again") for trial in trials}
        return [each for each in trials if each.number not in replaced and (not states or each.state in states)]

    def claim(self) -> int | None:
        """Take the next trial that waits; None where none does."""
        for trial in self.trials(TrialState.WAITING):
            if self.storage.set_trial_state_values(self._id(trial.number), TrialState.RUNNING):
                self.beat([trial.number])
                return trial.number
        return None

    def suggest(self, number: int) -> Params:
        """The values of a trial that runs: given ones, and else those that the search chooses.

        What is drawn depends on the seed, the number and what is known of other trials, not on who draws.
        """
        seed = random.Random(f"{self.seed} {number}").getrandbits(31)
        self._study.sampler = _sampler(self.search, seed)
        trial = Trial(self._study, self._id(number))
        for key, distribution in self.distributions.items():
            if isinstance(distribution, CategoricalDistribution):
                trial.suggest_categorical(key, distribution.choices)
            elif isinstance(distribution, IntDistribution):
                trial.suggest_int(key, distribution.low, distribution.high, log=distribution.log)
            elif isinstance(distribution, FloatDistribution):
                trial.suggest_float(key, distribution.low, distribution.high, log=distribution.log)
        return trial.params

    def note(self, number: int, **new: Any) -> None:
        """Remember facts of a trial that runs; of one that was taken for dead meanwhile, nothing."""
        known = facts(self.storage.get_trial(self._id(number)))
        with suppress(UpdateFinishedTrialError):
            self.storage.set_trial_user_attr(self._id(number), _FACTS, {**known, **new})

    def end(self, number: int, state: TrialState, value: float | None = None) -> None:
        """Say how a trial has ended; `value` where it is complete. One that has ended already stays as it is."""
        with suppress(UpdateFinishedTrialError):
            self._study.tell(number, value, state=state, skip_if_finished=True)

    def runs(self, number: int) -> bool:
        """Whether a trial is under way, as the storage has it now."""
        return self.storage.get_trial(self._id(number)).state is TrialState.RUNNING

    def again(self, numbers: Iterable[int]) -> None:
        """Have failed trials run anew, as trials of their own that take their places."""
        for number in numbers:
            trial = self.storage.get_trial(self._id(number))
            given = trial.params or trial.system_attrs.get("fixed_params", {})
            self._study.enqueue_trial(dict(given), user_attrs={_FACTS: {"again": number}})

    def beat(self, numbers: Iterable[int]) -> None:
        """Say that trials are alive, where the storage wants to know it."""
        if isinstance(self.storage, RDBStorage):
            for number in numbers:
                self.storage.record_heartbeat(self._id(number))

    def relieve(self, numbers: Iterable[int]) -> None:
        """Every so often, say that these trials are alive, and have those run anew whose machines are dead."""
        if not isinstance(self.storage, RDBStorage) or time.monotonic() < self._beaten + HEARTBEAT:
            return
        self.beat(numbers)
        self._beaten = time.monotonic()
        before = {trial.number for trial in self.trials(TrialState.RUNNING)}
        with _calm():
            optuna.storages.fail_stale_trials(self._study)
        failed = [trial for trial in self.trials(TrialState.FAIL) if trial.number in before]
        dead = [trial for trial in failed if facts(trial).get("status") != "failed"]
        self.again(trial.number for trial in dead if self._lives(trial) < RETRIES)

    @property
    def parent(self) -> str | None:
        """The tracking store's name of the run under which those of the trials are."""
        return self._study.user_attrs.get("mlflow.parentRunId")

    @parent.setter
    def parent(self, run: str) -> None:
        self._study.set_user_attr("mlflow.parentRunId", run)

    def _lives(self, trial: FrozenTrial) -> int:
        """How often a trial was begun anew before."""
        before, count = facts(trial).get("again"), 0
        while before is not None:
            before, count = facts(self.storage.get_trial(self._id(before))).get("again"), count + 1
        return count

    def _id(self, number: int) -> int:
        return _trial_id(self.storage, self.name, number)


def facts(trial: FrozenTrial) -> Mapping[str, Any]:
    """What a sweep has noted of a trial."""
    return trial.user_attrs.get(_FACTS, {})


def _trial_id(storage: BaseStorage, name: str, number: int) -> int:
    return storage.get_trial_id_from_study_id_trial_number(storage.get_study_id_from_name(name), number)


def _sampler(search: str, seed: int) -> BaseSampler:
    if search != "optuna":
        return RandomSampler(seed=seed)
    with _calm():
        return TPESampler(seed=seed, constant_liar=True)


def _distribution(axis: Choice | Range) -> BaseDistribution:
    if isinstance(axis, Choice):
        return CategoricalDistribution(axis.names)
    if axis.whole:
        return IntDistribution(int(axis.low), int(axis.high), log=axis.log)
    return FloatDistribution(axis.low, axis.high, log=axis.log)


@contextmanager
def _calm() -> Iterator[None]:
    """Without the warning that Optuna may change what is used here; the range of its versions is in pyproject.toml."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        yield


def _mend(path: Path) -> None:
    """Cut off a last line that was not written to its end."""
    if path.exists():
        data = path.read_bytes()
        whole = data.rfind(b"\n") + 1
        if whole < len(data):
            with path.open("r+b") as file:
                file.truncate(whole)
