"""The shipped pipelines: the published settings, each on a small text in the layout of its corpus."""

import gzip
import math

import pytest

from seqtoolkit import Pipeline

SMALL = [
    "source.vocabulary=40",
    "source.bptt=7",
    "batch.size=4",
    "model.encoder.size=8",
    "model.core.head_size=4",
    "run={steps: 2}",
    "evaluate.every=0",
    "learner.accumulate=2",
    "track=none",
]
PAPER = ("wikitext103", "gutenberg", "gigaword")
SAID = "the cat sat on the mat , and the dog lay by the door . "


def _wikitext(folder):
    for split, count in (("train", 6), ("valid", 2), ("test", 2)):
        articles = (
            f" \n = Article {number} = \n \n {SAID * 3}<unk>\n \n = = Part = = \n {SAID}\n" for number in range(count)
        )
        folder.joinpath(f"wiki.{split}.tokens").write_text("".join(articles))


def _gutenberg(folder):
    for split, count in (("train", 4), ("valid", 1), ("test", 1)):
        folder.joinpath(split).mkdir()
        for number in range(count):
            head = f"The Project Gutenberg eBook of A Book\n\n*** START OF THE PROJECT GUTENBERG EBOOK A BOOK {number} ***\n"
            foot = "*** END OF THE PROJECT GUTENBERG EBOOK A BOOK ***\nlicence terms apply\n"
            folder.joinpath(split, f"{number}.txt").write_text(f"{head}Chapter {number}\n\n{SAID * 4}\n{foot}")


def _gigaword(folder):
    for split, count in (("train", 6), ("valid", 2), ("test", 2)):
        folder.joinpath(split).mkdir()
        stories = (
            f'<DOC id="NYT_ENG_1995010{number}.0001" type="story" >\n<HEADLINE>\nAT&amp;T\n</HEADLINE>\n<DATELINE>\nROME\n</DATELINE>\n'
            f"<TEXT>\n<P>\n{SAID * 2}\n</P>\n<P>\n{SAID}\n</P>\n</TEXT>\n</DOC>\n"
            for number in range(count)
        )
        folder.joinpath(split, "nyt_eng_199501.gz").write_bytes(gzip.compress("".join(stories).encode()))


TEXTS = {
    "wikitext103": ("wikitext-103", _wikitext),
    "gutenberg": ("gutenberg", _gutenberg),
    "gigaword": ("gigaword", _gigaword),
}


@pytest.mark.parametrize("name", PAPER)
def test_a_small_text_in_its_layout(name, tmp_path, monkeypatch):
    """Each pipeline of the paper trains on a text that lies where it looks, in the layout of its corpus, markup left out."""
    place, write = TEXTS[name]
    monkeypatch.chdir(tmp_path)
    tmp_path.joinpath("data", place).mkdir(parents=True)
    write(tmp_path / "data" / place)
    result = Pipeline.load(f"paper/{name}", SMALL).run("runs")
    assert result.status == "FINISHED"
    assert 1 < result.metrics["test/perplexity"] < 100
    source = Pipeline.load(f"paper/{name}", SMALL).evaluated("test")
    read = source.decode(source.tokens[:])
    assert "cat" in read
    for markup in ("<P>", "GUTENBERG", "licence", "ROME", "DOC"):
        assert markup not in read


@pytest.mark.parametrize("name", PAPER)
def test_a_text_that_is_not_there(name, tmp_path, monkeypatch):
    """Who has no text is told in one line which file is wanted and where to get it; nothing is left behind."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        ValueError, match=r"^source.train: data/.*: there is no such file or folder. Where to get it: .+$"
    ):
        Pipeline.load(f"paper/{name}").run("runs")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", PAPER)
def test_the_published_settings_are_as_published(name):
    """Units, heads, layers, embedding, dropout, tying, BPTT, batch, optimizer and clipping are the paper's (A.4)."""
    plan = Pipeline.load(f"paper/{name}").plan
    core, head, encoder, learner = plan.core.params, plan.head, plan.encoder.params, plan.learner
    assert (plan.core.use, core["mem_slots"], core["num_heads"], core["num_heads"] * core["head_size"]) == (
        "rmc",
        1,
        4,
        2500,
    )
    assert (core["attention_mlp_layers"], core["num_blocks"]) == (5, 1)
    assert (encoder["size"], encoder["dropout"]) == (512, 0.5)
    assert (head.use, head.params["tied"]) == ("softmax", True)
    assert (plan.batch.params["size"], plan.origin.params["bptt"]) == (384, 100)
    optimizer = learner.params["optimizer"]
    assert (learner.use, optimizer.use, optimizer.params["lr"], learner.params["clip"]) == (
        "truncated",
        "adam",
        1e-3,
        0.1,
    )


def test_the_packaged_text(tmp_path):
    """The pipeline runs out of the box, and says what a trigram reaches on each split; its samples go on with the text."""
    few = [
        "batch.size=16",
        "model.encoder.size=8",
        "model.core.head_size=4",
        "run.steps=2",
        "run.checkpoint_every=0",
        "evaluate.every=0",
        "evaluate.examples=32",
        "evaluate.test_examples=32",
        "track=none",
    ]
    result = Pipeline.load("language", few).run(tmp_path / "runs")
    assert result.status == "FINISHED"
    assert 50 < result.metrics["test/trigram_perplexity"] < 200
    assert all(math.isfinite(value) for value in result.metrics.values())
