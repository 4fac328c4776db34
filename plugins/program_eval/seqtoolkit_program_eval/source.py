"""Source: programs as questions and their values as answers, by problem, difficulty and curriculum."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal
from zlib import crc32

import numpy as np
from lark import Token, Tree

from seqtoolkit.sdk import IGNORED, Block, Ragged, Sample, Source, Split, counter_bits, record
from seqtoolkit_program_eval import interpreter, vocabulary
from seqtoolkit_program_eval.code import ECHOES
from seqtoolkit_program_eval.curriculum import NAMES, Curriculum
from seqtoolkit_program_eval.curriculum import Name as CurriculumName
from seqtoolkit_program_eval.form import Form
from seqtoolkit_program_eval.grammar import Grammar, ProgramError, nodes
from seqtoolkit_program_eval.mark import GrammarError
from seqtoolkit_program_eval.sampler import Sampler
from seqtoolkit_program_eval.shape import Shapes

Problem = Literal["add", "control", "program", "copy", "reverse", "double"]
PROBLEMS = ("add", "control", "program", "copy", "reverse", "double")
TOKENS = ("character", "terminal")
MAX_LENGTH, MAX_NESTING, MAX_ANSWER = 1_000, 100, 100_000
MAX_ATTEMPTS = 300
EXAMPLES = 64
"""Among how many programs the shortest is looked for that shows what a question looks like."""
TRIES = {"train": 3, "valid": 16, "test": 16}
"""How many programs are drawn at a time, up to MAX_ATTEMPTS times, where the first was not of the split."""
_PARTS = {"train": (0, 8), "valid": (8, 9), "test": (9, 10)}
"""Of ten parts into which a hash of their texts divides all programs, those of each split: from, to."""


class ProgramEval(Source):
    """Small programs and what they come to (Santoro et al. 2018, section 4.2 and A.2; Zaremba & Sutskever 2014).

    Args:
        problem: add (+), control (+, -, if), program (+, -, if, for); copy, reverse, double: the program is a number,
            the answer its text, changed so once for each level of nesting.
        length: how many digits a number has, at most.
        nesting: how many operators a program has, at most.
        curriculum: baseline (always the maximum), mix (uniform from 1 to the maximum), naive (a level that rises as
            the loss stops to change), combine (uniform from 1 to that level). Where nothing is learned, in valid and
            test, naive and combine are baseline.
        grammar: the language: program_eval, learning_to_execute, the name of a plugin's grammar, or a path.
        weights: how often operators are sampled, by name, instead of what the grammar says: `{multiply: 1}`.
        tokens: character (an id for each character), terminal (an id for each keyword, operator, digit and letter).
        terminate: whether an answer that could go on ends with id 0, which training learns but metrics do not count.
        seed: which stream of examples this is.
        split: train, valid or test: eight, one and one of ten parts of all programs, by a hash of their texts.
    """

    def __init__(
        self,
        problem: Problem = "program",
        length: int = 5,
        nesting: int = 2,
        curriculum: CurriculumName = "mix",
        grammar: str = "program_eval",
        weights: dict[str, float] | None = None,
        tokens: Literal["terminal", "character"] = "character",
        terminate: bool = True,  # noqa: FBT001, FBT002  a setting of a pipeline, given by name
        seed: int = 0,
        split: Split = "train",
    ) -> None:
        super().__init__(seed, split)
        _choice("problem", problem, PROBLEMS)
        _choice("curriculum", curriculum, NAMES)
        _choice("tokens", tokens, TOKENS)
        _within("length", length, MAX_LENGTH)
        _within("nesting", nesting, MAX_NESTING)
        if problem == "double" and length * 2**nesting > MAX_ANSWER:
            raise ValueError(f"nesting: double at length {length} and nesting {nesting} makes answers too long to hold")
        self.problem, self.length, self.nesting, self.terminate = problem, length, nesting, terminate
        try:
            self.grammar = Grammar.load(grammar)
        except ValueError as error:
            raise GrammarError(f"grammar: {error}") from None
        self.shapes = Shapes(self.grammar)
        self.sampler = Sampler(self.shapes, _forms(self.shapes, problem, weights), length, nesting, _echo(problem))
        rises = curriculum in ("naive", "combine")
        self.curriculum = Curriculum("baseline" if rises and split != "train" else curriculum, length, nesting)
        self.questions = vocabulary.of_programs(self.grammar, whole=tokens == "terminal")
        bounded = problem in ECHOES or self.grammar.option("modulus") is not None
        top = 10**length - 1 if problem in ECHOES else -1  # which is the modulus less 1
        self.longest = len(self.sampler.answer(top, length, nesting)) if bounded else None
        """How many characters the longest answer has, where there is a longest."""
        negative = not bounded
        self.answers = vocabulary.of_answers(negative=negative)
        self.writes = record(
            question=f"i64<{len(self.questions)}>[B L]", answer=f"i64<{len(self.answers)}>[B A]", counted="bool[B A]"
        )

    def draw(self, indexes: np.ndarray) -> Block:
        """The examples at `indexes`: `question` and `answer`, Ragged ids, and `counted`, false at an answer's end."""
        return self._block(*self.programs(indexes))

    def programs(self, indexes: np.ndarray) -> tuple[list[str], list[str]]:
        """The texts and the answers of the examples at `indexes`."""
        blocks = indexes // (self.block * self.world)
        bits = counter_bits(self.seed, self.split, indexes, 2) if self.curriculum.random else None
        lengths, nestings = self.curriculum.difficulty(blocks, bits)
        texts, answers, kept = self._attempt(indexes, lengths, nestings, 0, 1)
        todo = np.flatnonzero(~kept)
        tries = TRIES[self.split]
        for attempt in range(1, MAX_ATTEMPTS + 1):
            if not len(todo):
                break
            again = np.repeat(todo, tries)
            found, values, kept = self._attempt(indexes[todo], lengths[again], nestings[again], attempt, tries)
            rows, places = np.unique(np.flatnonzero(kept) // tries, return_index=True)
            for row, place in zip(todo[rows].tolist(), np.flatnonzero(kept)[places].tolist(), strict=True):
                texts[row], answers[row] = found[place], values[place]
            todo = np.delete(todo, rows)
        if len(todo):
            raise ValueError(
                f"split: {self.split} has no program of length {lengths[todo[0]]} and nesting {nestings[todo[0]]} "
                f"of the problem {self.problem}: raise length or nesting, or take curriculum: baseline"
            )
        return texts, answers

    def _attempt(
        self, indexes: np.ndarray, lengths: np.ndarray, nestings: np.ndarray, attempt: int, tries: int
    ) -> tuple[list[str], list[str], np.ndarray]:
        """Programs, `tries` for each index, and which of them are of the split."""
        words = self.sampler.words(self.nesting)
        bits = counter_bits(self.seed, self.split, indexes, tries * words, stream=1 + attempt)
        texts, answers = self.sampler(bits.reshape(-1, words), lengths, nestings, self.nesting)
        return texts, answers, belongs(texts, self.split)

    @property
    def covers(self) -> Mapping[str, tuple[float, float]]:
        """Lengths and nestings: the greatest alone (baseline), or all from 1 on."""
        tops = {"length": self.length, "nesting": self.nesting}
        return {name: (top if self.curriculum.name == "baseline" else 1, top) for name, top in tops.items()}

    @property
    def asks(self) -> str:
        """A program of the language."""
        texts, _ = self.programs(np.arange(EXAMPLES))
        example = min(texts, key=lambda text: (text.count("\n"), len(text)))
        return f"a program of {self.grammar.path.stem}, such as `{example}`"

    def ask(self, question: str) -> Block:
        """One program that a person gives, with its true answer, as a block of one example.

        The modulus goes by the program's longest number, as in training, even where that is longer than `length`; copy,
        reverse and double change the value once and once more for each pair of brackets. Where there is a longest answer,
        there is room for it, so that all is seen that a model says.

        Raises ProgramError where the text is not of the language or cannot be run.
        """
        tree, values = interpreter.values_of(self.grammar, question)
        if len(values) != 1:
            raise ProgramError(f"the program prints {len(values)} numbers; a question has one answer")
        found = list(nodes(tree))
        digits = max(
            (len(each) for each in found if isinstance(each, Token) and each.type == self.shapes.number), default=1
        )
        if digits > MAX_LENGTH:
            raise ProgramError(f"the program has a number of {digits:,} digits; at most {MAX_LENGTH:,} are read")
        steps = 1 + sum(isinstance(each, Tree) and each.data == self.shapes.bracket.name for each in found)
        try:
            block = self._block([self.grammar.print(tree)], [self.sampler.answer(values[0], digits, steps)])
        except ValueError as error:
            raise ProgramError(str(error)) from error
        spare = max(0, (self.longest or 0) - int(block["answer"].lengths[0]))
        return block | {
            name: _extended(block[name], spare, fill) for name, fill in (("answer", IGNORED), ("counted", False))
        }

    def observe(self, metrics: Mapping[str, float]) -> None:
        """Hear the loss of an update; naive and combine advance by it."""
        self.curriculum.observe(float(metrics["loss"]))

    @property
    def listens(self) -> bool:
        """Whether the curriculum advances by what it hears."""
        return self.curriculum.rises

    def memory(self) -> dict[str, Any]:
        """What the curriculum remembers."""
        return self.curriculum.memory()

    def recall(self, memory: Mapping[str, Any]) -> None:
        """Restore what `memory` returned."""
        self.curriculum.recall(memory)

    def show(self, inputs: np.ndarray, targets: np.ndarray, predictions: np.ndarray) -> Sample:
        """One example as text: inputs [T], targets [U] (-100 where nothing is wanted), predictions [U]."""
        wanted = targets[targets > 0]
        said = predictions if self.terminate else predictions[: len(wanted)]
        ends = np.flatnonzero(said == 0)
        said = said[: ends[0]] if len(ends) else said
        if self.longest is not None:
            said = said[: max(self.longest, len(wanted))]
        decode = self.answers.decode
        return Sample(self.questions.decode(inputs.tolist()), decode(wanted.tolist()), decode(said.tolist()))

    def _block(self, texts: list[str], answers: list[str]) -> Block:
        answer = self.answers.encode(answers, end=self.terminate, longest=self.longest)
        counted = Ragged(answer.values != 0, answer.lengths)
        return {"question": self.questions.encode(texts), "answer": answer, "counted": counted}


def belongs(texts: list[str], split: str) -> np.ndarray:
    """Which programs are of `split`, by their texts alone: bool [len(texts)]. No text, no program."""
    codes = np.array([crc32(text.encode()) for text in texts], np.uint64)
    part = ((codes * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(32)) % np.uint64(10)
    first, end = _PARTS[split]
    found = (part >= first) & (part < end)
    return found & np.array(list(map(bool, texts))) if "" in texts else found


def _extended(ragged: Ragged, spare: int, fill: int) -> Ragged:
    """A single row with `spare` more values."""
    values = np.full(spare, fill, ragged.values.dtype)
    return Ragged(np.concatenate([ragged.values, values]), ragged.lengths + spare)


def _echo(problem: str) -> str | None:
    return problem if problem in ECHOES else None


def _forms(shapes: Shapes, problem: str, weights: dict[str, float] | None) -> list[Form]:
    """The forms of the operators that the grammar gives to `problem`, with `weights` instead of the grammar's."""
    operators = shapes.operators
    chosen = {name: each.mark.weight for name, each in operators.items() if problem in each.mark.within}
    for name, weight in (weights or {}).items():
        if problem in ECHOES:
            raise ValueError(f"weights: {problem} has no operators, got {name}")
        if name not in operators:
            raise ValueError(f"weights.{name}: the grammar has no operator of that name; it has {', '.join(operators)}")
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < float("inf"):
            raise ValueError(f"weights.{name}: wanted a number from 0 up, got {weight!r}")
        chosen[name] = float(weight)
    chosen = {name: weight for name, weight in chosen.items() if weight}
    if not chosen and problem not in ECHOES:
        raise ValueError(f"weights: no operator is left for the problem {problem} in {shapes.grammar.path.name}")
    return shapes.forms(chosen)


def _choice(name: str, given: Any, choices: tuple[str, ...]) -> None:
    if given not in choices:
        raise ValueError(f"{name}: wanted one of {', '.join(choices)}, got {given!r}")


def _within(name: str, given: Any, top: int) -> None:
    if isinstance(given, bool) or not isinstance(given, int) or not 1 <= given <= top:
        raise ValueError(f"{name}: wanted a whole number from 1 to {top:,}, got {given!r}")
