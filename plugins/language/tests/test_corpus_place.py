"""Where the files of a corpus are found, and what is said where they are not."""

from pathlib import Path

import pytest

from seqtoolkit_language import place
from seqtoolkit_language.corpus import CorpusError, File, find


def tree(root, *names):
    """Write small files below a folder."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("a word\n")
    return root


def names(root, places):
    """Find files and name them below a folder."""
    return [str(Path(file.path).relative_to(root)) for file in find(places)]


def test_a_folder_gives_all_files_below_it_but_hidden_ones(tmp_path):
    """Files of sub-folders are found, sorted by path; hidden files, hidden folders and the cache are left out."""
    tree(tmp_path, "b.txt", "a/z.txt", "a/c.gz", ".hidden", ".seqtoolkit/tokens", "a/.git/x")
    assert names(tmp_path, str(tmp_path)) == ["a/c.gz", "a/z.txt", "b.txt"]


def test_a_file_comes_with_its_size_and_time(tmp_path):
    """A file is found as it is on the disk."""
    path = tree(tmp_path, "a.txt") / "a.txt"
    assert find([str(path)]) == [File(str(path), 7, path.stat().st_mtime_ns)]


def test_places_that_overlap_give_each_file_once(tmp_path):
    """A file that several places name, or a link to it, is one file; the result is sorted, not in order of places."""
    tree(tmp_path, "b.txt", "a.txt")
    (tmp_path / "c.txt").symlink_to(tmp_path / "b.txt")
    assert names(tmp_path, [str(tmp_path / "b.txt"), str(tmp_path / "*.txt"), str(tmp_path)]) == ["a.txt", "b.txt"]


def test_a_glob_goes_into_folders_by_two_stars(tmp_path):
    """`**` matches any depth, and folders that match are passed over."""
    tree(tmp_path, "x/a.txt", "x/y/b.txt", "x/c.md", "folder.txt/d.md")
    assert names(tmp_path, str(tmp_path / "**/*.txt")) == ["x/a.txt", "x/y/b.txt"]


def test_a_name_with_the_signs_of_a_glob_is_a_file_first(tmp_path):
    """A file that is really called `a[1].txt` is found by its name."""
    tree(tmp_path, "a[1].txt", "a1.txt")
    assert names(tmp_path, str(tmp_path / "a[1].txt")) == ["a[1].txt"]


def test_a_place_at_home_is_found(tmp_path, monkeypatch):
    """`~` is the user's home."""
    monkeypatch.setenv("HOME", str(tree(tmp_path, "a.txt")))
    assert names(tmp_path, "~/a.txt") == ["a.txt"]


def test_a_package_gives_the_texts_that_it_carries(monkeypatch, tmp_path):
    """`package:` finds .txt and .md files of an installed distribution, packed ones too, and nothing of its metadata."""
    info = "talks-1.0.dist-info"
    tree(tmp_path, "talks/a.txt", "talks/b.MD", "talks/c.txt.gz", "talks/d.py", "talks/e.csv", f"{info}/top_level.txt")
    listed = ["talks/a.txt", "talks/b.MD", "talks/c.txt.gz", "talks/d.py", "talks/e.csv", f"{info}/top_level.txt"]
    (tmp_path / info / "METADATA").write_text("Metadata-Version: 2.1\nName: talks\nVersion: 1.0\n")
    (tmp_path / info / "RECORD").write_text("".join(f"{name},,\n" for name in listed))
    monkeypatch.syspath_prepend(str(tmp_path))
    assert names(tmp_path, "package:talks") == ["talks/a.txt", "talks/b.MD", "talks/c.txt.gz"]
    (tmp_path / info / "RECORD").write_text("talks/d.py,,\n")
    with pytest.raises(CorpusError, match=r"carries no \.txt or \.md file"):
        find("package:talks")


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("~/nowhere/a.txt", "~/nowhere/a.txt: there is no such file or folder"),
        ("nowhere/*.txt", "nowhere/*.txt: no file matches this pattern"),
        (
            "package:no-such-thing",
            "package:no-such-thing: the package 'no-such-thing' is not installed; pip install no-such-thing",
        ),
        ("package:", "is not installed"),
        ("", "no place of a corpus is given"),
        ([], "no place of a corpus is given"),
        ("/dev/null", "/dev/null: this is neither a file nor a folder"),
    ],
)
def test_a_place_without_a_file_is_said_as_it_was_written(where, message, tmp_path, monkeypatch):
    """What is not there is one line with the place as the user wrote it."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CorpusError) as error:
        find(where)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_folder_without_files_and_a_pattern_of_folders_say_so(tmp_path):
    """A folder with only hidden files is no corpus, nor is a pattern that only folders match."""
    tree(tmp_path, "folder/.hidden")
    with pytest.raises(CorpusError, match="there is no file in this folder"):
        find(str(tmp_path / "folder"))
    with pytest.raises(CorpusError, match="only folders match"):
        find(str(tmp_path / "fold*"))


def test_a_dangling_link_is_an_error_and_not_passed_over(tmp_path):
    """A place that is a link to nothing is said by name."""
    (tmp_path / "link.txt").symlink_to(tmp_path / "gone.txt")
    with pytest.raises(CorpusError, match=r"link\.txt: the file cannot be read: No such file"):
        find(str(tmp_path / "link.txt"))


def test_a_folder_that_may_not_be_listed_is_an_error(tmp_path, monkeypatch):
    """Part of a corpus is not left out in silence because a folder is locked."""
    tree(tmp_path, "a/b.txt")

    def locked(top, *, onerror):
        onerror(PermissionError(13, "Permission denied", str(top)))
        return iter(())

    monkeypatch.setattr(place.os, "walk", locked)
    with pytest.raises(CorpusError, match="the folder cannot be read: Permission denied"):
        find(str(tmp_path))
