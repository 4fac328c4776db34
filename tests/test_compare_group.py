"""Runs in groups: what tells them apart, what does not count, and what is said of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqtoolkit.compare.group import grouped, seed_of
from seqtoolkit.record import Record


def _record(identifier, **config):
    """A run; in the names of settings a double underscore stands for the dot."""
    return Record(
        identifier, identifier, "FINISHED", {key.replace("__", "."): str(value) for key, value in config.items()}
    )


def _runs(*settings, seeds=range(3)):
    return [
        _record(f"{place}-{seed}", **{"run__seed": seed, **each})
        for place, each in enumerate(settings)
        for seed in seeds
    ]


def _members(found):
    return {group.name: [each.run_id for each in group.records] for group in found.groups}


RMC = {"model__core": "rmc", "model__core__mem_slots": 4, "batch__size": 8}
LSTM = {"model__core": "lstm", "model__core__hidden_size": 16, "batch__size": 8}


def test_groups_differ_in_all_but_the_seed():
    """Runs that differ in seed, threads and tracking alone are one group; what follows from the core is in no name."""
    runs = [
        _record(
            f"{name}{seed}",
            run__seed=seed,
            run__threads=seed,
            track="mlflow",
            track__experiment=seed,
            parameters=3,
            **core,
        )
        for name, core in (("r", RMC), ("l", LSTM))
        for seed in range(2)
    ]
    found = grouped(runs)
    assert found.by == ("model.core",)
    assert _members(found) == {"lstm": ["l0", "l1"], "rmc": ["r0", "r1"]}
    assert found.differ == {
        "model.core": ("lstm", "rmc"),
        "model.core.hidden_size": ("16", "-"),
        "model.core.mem_slots": ("-", "4"),
    }
    assert found.same == {"batch.size": "8"}
    assert found.mixed == ()


def test_names_say_what_differs_and_no_more():
    """Parts are named by themselves, numbers with as much of their keys as is needed; numbers are sorted by size."""
    runs = _runs(*({**RMC, "learner__lr": lr, "source__length": lr, "evaluate__length": lr} for lr in (10, 9, 0.5)))
    assert [group.name for group in grouped(runs).groups] == ["length=0.5", "length=9", "length=10"]
    assert grouped(runs).by == ("evaluate.length",)
    both = grouped(runs, ["source.length", "evaluate.length"])
    assert both.groups[0].name == "source.length=0.5, evaluate.length=0.5"
    slots = grouped(
        [
            *_runs(RMC, {**RMC, "model__core__mem_slots": 8}),
            *(_record(f"l{seed}", run__seed=seed, **LSTM) for seed in range(2)),
        ]
    )
    assert [group.name for group in slots.groups] == ["lstm", "rmc, mem_slots=4", "rmc, mem_slots=8"]


def test_settings_that_make_the_groups_can_be_named():
    """--by makes the groups; other settings that differ within them are named."""
    runs = _runs(*({**core, "batch__size": size} for core in (RMC, LSTM) for size in (8, 16)))
    assert {group.name: len(group.records) for group in grouped(runs).groups} == {
        "lstm, size=8": 3,
        "lstm, size=16": 3,
        "rmc, size=8": 3,
        "rmc, size=16": 3,
    }
    found = grouped(runs, ["model.core"])
    assert {group.name: len(group.records) for group in found.groups} == {"lstm": 6, "rmc": 6}
    assert found.mixed == ("batch.size",)
    assert found.differ["batch.size"] == ("8, 16", "8, 16")
    assert [group.name for group in grouped(runs, ["run.seed"]).groups] == ["seed=0", "seed=1", "seed=2"]


def test_runs_that_differ_in_nothing_are_one_group():
    """Without a setting that differs there is one group, which is called all runs."""
    found = grouped(_runs(RMC))
    assert _members(found) == {"all runs": ["0-0", "0-1", "0-2"]}
    assert found.by == ()
    assert found.differ == {}


def test_a_setting_that_nobody_has():
    """It is refused with the one that was probably meant, or else those that differ."""
    with pytest.raises(ValueError, match=r"--by: no run has a setting 'model.cor'; did you mean model.core\?"):
        grouped(_runs(RMC), ["model.cor"])
    with pytest.raises(ValueError, match=r"'core'; did you mean model.core\?"):
        grouped(_runs(RMC), ["core"])
    with pytest.raises(ValueError, match=r"'zzz'; those that differ: model.core, run.seed, model.core.hidden_size, "):
        grouped(_runs(RMC, LSTM), ["zzz"])


def test_the_same_run_twice_is_one():
    """Of runs with the same settings and seed the first, which is the latest, counts: they are no two samples."""
    found = grouped([*_runs(RMC), _record("old", run__seed=1, run__threads=8, **RMC)])
    assert _members(found) == {"all runs": ["0-0", "0-1", "0-2"]}
    assert found.twins == {"old": "0-1"}
    foreign = [_record(name, lr=0.1) for name in "ab"]
    assert _members(grouped(foreign)) == {"all runs": ["a", "b"]}
    assert [seed_of(each) for each in foreign] == ["a", "b"]


settings = st.fixed_dictionaries(
    {"model__core": st.sampled_from(["rmc", "lstm"]), "batch__size": st.integers(1, 2), "run__seed": st.integers(0, 2)},
    optional={"model__core__slots": st.integers(1, 2)},
)


@given(st.lists(settings, min_size=1, max_size=12))
def test_every_run_is_in_one_group_or_a_twin(configs):
    """Groups part the runs: same settings same group, other settings another group, and no name twice."""
    runs = [_record(str(place), **config) for place, config in enumerate(configs)]
    found = grouped(runs)
    placed = {record.run_id: group.name for group in found.groups for record in group.records}
    assert sorted([*placed, *found.twins]) == sorted(each.run_id for each in runs)
    assert len({group.name for group in found.groups}) == len(found.groups)
    assert found.mixed == ()
    for one in runs:
        for other in runs:
            if one.run_id in placed and other.run_id in placed:
                alike = all(
                    one.config.get(key) == other.config.get(key) for key in {*one.config, *other.config} - {"run.seed"}
                )
                assert alike == (placed[one.run_id] == placed[other.run_id])
