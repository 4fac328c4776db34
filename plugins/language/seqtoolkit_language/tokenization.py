"""The settings of a tokenizer, checked."""

from dataclasses import dataclass

KINDS = ("word", "space", "character", "byte", "bpe")
BYTES = 258


@dataclass(frozen=True)
class Tokenization:
    """How text becomes tokens. Plain data: asdict() of it is JSON.

    Attributes:
        kind: word (words and punctuation apart, by the rule of `word`), space (what stands between white space, as
            published token files mean it), character, byte, or bpe (pieces of words, of bytes, learned by their
            frequency).
        size: the number of ids, <unk> and <eos> among them; None for as many as there are (word, space, character).
            Rarer tokens are cut; where the corpus has fewer, the last ids stay unused.
        min_count: what stands less often is cut (word, space, character), or not learned from (bpe).
        lowercase: whether all letters become small ones.
        lines: whether <eos> stands for each line break, too, and not only at the end of a document.

    Raises:
        ValueError: a setting is not as wanted; one line that begins with its name.
    """

    kind: str = "word"
    size: int | None = None
    min_count: int = 1
    lowercase: bool = False
    lines: bool = False

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind: wanted one of {', '.join(KINDS)}, got {self.kind!r}")
        self._check_size()
        if type(self.min_count) is not int or self.min_count < 1:
            raise ValueError(f"min_count: wanted a whole number of 1 or more, got {self.min_count!r}")
        if self.kind == "byte" and self.min_count > 1:
            raise ValueError(f"min_count: wanted 1 for kind byte, which knows every byte, got {self.min_count}")
        for name in ("lowercase", "lines"):
            if type(getattr(self, name)) is not bool:
                raise ValueError(f"{name}: wanted true or false, got {getattr(self, name)!r}")
        if self.kind == "byte" and self.lowercase:
            raise ValueError("lowercase: wanted false for kind byte, which keeps each byte as it is, got true")

    def _check_size(self) -> None:
        if self.size is not None and type(self.size) is not int:
            raise ValueError(f"size: wanted a whole number or nothing, got {self.size!r}")
        least = BYTES if self.kind == "bpe" else 3
        if self.kind == "bpe" and self.size is None:
            raise ValueError(f"size: wanted the number of tokens for kind bpe, {least} or more, got none")
        if self.kind == "byte" and self.size not in {None, BYTES}:
            raise ValueError(f"size: wanted {BYTES} or nothing for kind byte, got {self.size}")
        if self.size is not None and self.size < least:
            raise ValueError(f"size: wanted {least} or more for kind {self.kind}, got {self.size}")
