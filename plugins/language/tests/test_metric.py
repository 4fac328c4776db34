"""Metrics of text: against plain Python in float64, and against one another."""

import math

import pytest
import torch

from seqtoolkit.sdk import IGNORED, Batch
from seqtoolkit_language import BitsPerCharacter, FrequencyPerplexity
from seqtoolkit_language.tokenizer import Tokenization, Tokenizer, count

BANDS = [(0, 3), (3, 10), (10, None)]


def drawn(steps=7, rows=5):
    """Log-likelihoods [U B], and a batch in which some targets are ignored."""
    generator = torch.Generator().manual_seed(0)
    targets = torch.randint(0, 9, (steps, rows), generator=generator)
    mask = torch.rand(steps, rows, generator=generator) < 0.7
    targets[~mask] = IGNORED
    extra = {name: torch.randint(0, 20, (steps, rows), generator=generator) for name in ("characters", "frequency")}
    logs = -5 * torch.rand(steps, rows, generator=generator)
    return logs, Batch(targets, targets, mask, None, extra)


def numbers(logs, batch):
    """The log-likelihood, characters and frequency of each target that counts, as Python's numbers."""
    fields = (logs, batch.extra["characters"], batch.extra["frequency"])
    return list(zip(*(each[batch.mask].tolist() for each in fields), strict=True))


def test_bits_per_character():
    """All bits over all characters, of what counts alone."""
    logs, batch = drawn()
    rows = numbers(logs, batch)
    wanted = -sum(log for log, _, _ in rows) / math.log(2) / sum(size for _, size, _ in rows)
    metric = BitsPerCharacter()
    assert metric.result(metric.measure(logs, batch)) == pytest.approx(wanted, rel=1e-12)
    assert metric.measure(logs, batch).dtype == torch.float64


@pytest.mark.parametrize(("least", "below"), [*BANDS, (0, None)])
def test_perplexity_of_a_band(least, below):
    """It is exp of the mean negative log-likelihood of the words that stand in the training text so often."""
    logs, batch = drawn()
    inside = [log for log, _, often in numbers(logs, batch) if least <= often < (below or math.inf)]
    metric = FrequencyPerplexity(least, below)
    found = metric.result(metric.measure(logs, batch))
    assert found == pytest.approx(math.exp(-sum(inside) / len(inside)), rel=1e-12)


def test_bands_are_parts_of_the_whole():
    """Bands that meet count every token once: what they add up, added up, is that of the whole."""
    logs, batch = drawn()
    parts = sum(FrequencyPerplexity(*band).measure(logs, batch) for band in BANDS)
    torch.testing.assert_close(parts, FrequencyPerplexity().measure(logs, batch), rtol=1e-12, atol=0)
    assert parts[1] == batch.mask.sum()


def test_bits_of_bytes():
    """Of ASCII by bytes, every token is a character: bits per character are the loss over ln 2."""
    settings, table, text = Tokenization("byte"), {}, b"To be, or not to be.\n"
    count(text, settings, table)
    tokenizer = Tokenizer.learn(settings, table.items(), ends=1)
    targets = torch.from_numpy(tokenizer.encode(text).astype(int))[:, None]
    assert len(targets) == len(text)
    logs = -5 * torch.rand(targets.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    extra = {"characters": torch.from_numpy(tokenizer.characters)[targets]}
    batch = Batch(targets, targets, torch.ones_like(targets, dtype=torch.bool), None, extra)
    metric = BitsPerCharacter()
    assert metric.result(metric.measure(logs, batch)) == pytest.approx(-logs.mean().item() / math.log(2), rel=1e-12)


def test_what_is_not_there():
    """A band without a word is nan, one beyond float's range inf; neither is an error."""
    logs, batch = drawn()
    metric = FrequencyPerplexity(1000)
    assert math.isnan(metric.result(metric.measure(logs, batch)))
    assert metric.result(torch.tensor([-1e6, 1.0], dtype=torch.float64)) == math.inf


def test_names():
    """Bands are told apart by their names."""
    names = [FrequencyPerplexity(*band).name for band in [(0, 100), (100, 1000), (1000, None)]]
    assert names == ["perplexity_below_100", "perplexity_100_to_1000", "perplexity_from_1000"]


@pytest.mark.parametrize(
    ("least", "below", "says"),
    [(-1, None, "least: wanted at least 0, got -1"), (5, 5, "below: wanted more than least, 5, got 5")],
)
def test_bands_that_are_none(least, below, says):
    """An impossible band is one line that names the setting."""
    with pytest.raises(ValueError, match=f"^{says}$"):
        FrequencyPerplexity(least, below)
