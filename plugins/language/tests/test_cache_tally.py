"""The tally: counts that go over the disk are those that would have stayed in memory."""

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from seqtoolkit_language import tally

TOKENS = st.text(alphabet='ab\n\t"\\é\u2028\U0001f600,[]', max_size=3)


@settings(max_examples=60, deadline=None)
@given(parts=st.lists(st.lists(TOKENS, max_size=12), max_size=12), limit=st.integers(0, 6), workers=st.integers(1, 3))
def test_spilled_tables_give_the_counts_of_one_table(parts, limit, workers, tmp_path_factory):
    """However small the tables, and whichever text they hold, each token comes once, in order, with all its counts."""
    tallies = [tally.Tally(tmp_path_factory.mktemp("tally"), limit) for _ in range(workers)]
    for number, part in enumerate(parts):
        each = tallies[number % workers]
        for token in part:
            each.table[token] = each.table.get(token, 0) + 1
        each.trim()
        assert len(each.table) <= limit
    for each in tallies:
        each.spill()
    files = [file for each in tallies for file in each.files]
    found = list(tally.merged(files, tmp_path_factory.mktemp("merged")))
    assert dict(found) == Counter(token for part in parts for token in part)
    assert [token for token, _ in found] == sorted({token for token, _ in found})


def test_more_files_than_may_be_open_are_merged_in_turns(tmp_path, monkeypatch):
    """With three files at a time, twenty tables come together exactly, and what has been merged is gone from the disk."""
    monkeypatch.setattr(tally, "_FILES", 3)
    each = tally.Tally(tmp_path, 0)
    expected: Counter[str] = Counter()
    for number in range(20):
        part = {f"t{number * step % 7}": number for step in range(4)}
        each.table.update(part)
        expected.update(part)
        each.trim()
    assert len(each.files) == 20
    assert dict(tally.merged(each.files, tmp_path)) == expected
    assert len(list(tmp_path.iterdir())) <= 3


def test_nothing_counted_is_nothing_found(tmp_path):
    """An empty table is not written, and no files merge to no counts."""
    each = tally.Tally(tmp_path, 10)
    each.spill()
    assert each.files == []
    assert list(tally.merged([], tmp_path)) == []
