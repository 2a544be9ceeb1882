"""How the writer learns: to write the answers of answer files, word by word, from the sentences
that support them and, so that it learns to leave something out, from others beside them.

Shapes as in `generator.teaching.writer_network`.
"""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from generator.reader import Reader
from generator.reader_graph import ABSENT
from generator.teaching.lesson import Field, Page, Question, TeachingError
from generator.teaching.optimization import MixedPrecision, learning_rate_share
from generator.teaching.training import Figures
from generator.teaching.writer_network import WriterNetwork, WriterShape
from generator.writer import END, MOST_WORDS, WORD, source_words

FEWEST_FIELDS = 4
"""A word of the vocabulary stands in the answers of so many: none is of one organisation only."""
NOTHING, COPIED_ONLY = -1, -2
"""Instead of a number in the vocabulary: after the end, and for a word that it does not hold."""
VALIDATED_AT_ONCE = 64


@dataclass(frozen=True, kw_only=True)
class WriterConfig:
    epochs: int = 6
    batch_size: int = 48
    learning_rate: float = 8e-4
    weight_decay: float = 0.02
    warm_up: int = 200
    least_learning_rate: float = 0.02
    other_sentence: float = 0.4
    """Of the examples, those with a sentence in their source that does not answer."""
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Example:
    page: Page
    question: Question
    answer: tuple[str, ...]

    def source(self, sentences: Sequence[int]) -> tuple[list[str], list[int]]:
        """Words, and what each stands in."""
        shown = [self.page.sentences[number].shown for number in sentences]
        return source_words(self.question.text, self.question.before, self.page.title, shown)


@dataclass(frozen=True, slots=True)
class Batch:
    source: Tensor  # (B, N, F)
    kinds: Tensor  # (B, N)
    present: Tensor  # (B, N) bool
    written: Tensor  # (B, T, F)
    wanted: Tensor  # (B, T + 1): numbers in the vocabulary, NOTHING or COPIED_ONLY
    copies: Tensor  # (B, T + 1, N) bool: the source's words that are the wanted one


def build_vocabulary(fields: Sequence[Field]) -> list[str]:
    """The end, "I", and the words in small letters, without digits, of several fields' answers."""
    counts: Counter[str] = Counter()
    for field in fields:
        words: set[str] = set()
        for question in field.questions:
            first, *others = WORD.findall(question.answer or "") or [""]
            words |= {first.lower(), *others} - {""}
        counts.update(words)
    common = (
        word
        for word, count in counts.items()
        if count >= FEWEST_FIELDS and word == word.lower() and not any(map(str.isdigit, word))
    )
    return [END, "I", *sorted(common)]


def examples_of(fields: Sequence[Field], vocabulary: Sequence[str]) -> list[Example]:
    """Answers that can be written: each word is known, or can be copied."""
    known = set(vocabulary)
    examples: list[Example] = []
    for field in fields:
        for question in field.questions:
            if question.answer is None:
                continue
            page = field.pages[question.page]
            answer = tuple(WORD.findall(question.answer))
            shown = [page.sentences[number].shown for number in question.support]
            told = " ".join([*shown, page.title, question.text, question.before])
            copyable = {word.lower() for word in WORD.findall(told)}
            writable = all(
                word in known or word.lower() in known or word.lower() in copyable
                for word in answer
            )
            if writable and len(answer) <= MOST_WORDS:
                examples.append(Example(page, question, answer))
    return examples


class WordTable:
    """The reader's features of all words seen so far; number 0 is no word."""

    def __init__(self, reader: Reader, dtype: torch.dtype) -> None:
        self._reader = reader
        self._numbers: dict[str, int] = {}
        self._rows = torch.zeros(1024, features_of(reader), dtype=dtype)

    def numbers(self, words: Sequence[str]) -> list[int]:
        return [self._number(word) for word in words]

    def features(self, numbers: NDArray[np.int64]) -> Tensor:
        """(…, F)"""
        return self._rows[torch.from_numpy(numbers)]

    def _number(self, word: str) -> int:
        number = self._numbers.get(word)
        if number is None:
            number = self._numbers[word] = len(self._numbers) + 1
            if number == len(self._rows):
                self._rows = torch.cat([self._rows, torch.zeros_like(self._rows)])
            self._rows[number] = torch.from_numpy(self._reader.word_features(word))
        return number


def features_of(reader: Reader) -> int:
    """How many it has of a word."""
    return len(reader.word_features("a"))


class WriterPupil:
    """The network with all that a step needs, and that a checkpoint keeps."""

    def __init__(
        self,
        reader: Reader,
        vocabulary: Sequence[str],
        fields: Sequence[Field],
        *,
        validation: Sequence[Field] = (),
        config: WriterConfig,
        shape: WriterShape | None = None,
    ) -> None:
        """`shape`: where it is not the usual one. Raises TeachingError."""
        torch.manual_seed(config.seed)
        self._draw = random.Random(config.seed)
        self._config = config
        self.vocabulary = list(vocabulary)
        self._places = {word: number for number, word in enumerate(vocabulary)}
        self._examples = examples_of(fields, vocabulary)
        self.validation = examples_of(validation, vocabulary)
        if len(self._examples) < config.batch_size:
            raise TeachingError(
                f"{len(self._examples)} answers to learn from are too few; give "
                f"{config.batch_size} or more"
            )
        self.network = WriterNetwork(shape or WriterShape(len(vocabulary), features_of(reader)))
        self.network.bfloat16()
        self._words = WordTable(reader, torch.bfloat16)
        self._optimizer = MixedPrecision(
            self.network,
            learning_rate=config.learning_rate,
            weight_decay=config.weight_decay,
        )
        self._queue: list[list[int]] = []

    @property
    def steps(self) -> int:
        return self._config.epochs * len(self._examples) // self._config.batch_size

    @property
    def checkpoint_every(self) -> int:
        return len(self._examples) // self._config.batch_size

    @property
    def weights(self) -> dict[str, Tensor]:
        """In float32, the mean of the last steps'."""
        return self._optimizer.means

    def learn(self, step: int) -> Figures:
        config = self._config
        if not self._queue:
            self._queue = self._epoch()
        examples = [self._examples[number] for number in self._queue.pop()]
        share = learning_rate_share(
            step, of=self.steps, warm_up=config.warm_up, least=config.least_learning_rate
        )
        self.network.train()
        sentences = [shown_sentences(one, self._draw, config.other_sentence) for one in examples]
        losses = word_losses(self.network, self.batch(examples, sentences))
        loss = losses.mean()
        self._optimizer.step(loss, share)
        return {"training": loss.item()}

    @torch.inference_mode()
    def examine(self) -> Figures:
        """Nats a word."""
        if not self.validation:
            return {}
        self.network.eval()
        losses = []
        with self._optimizer.averaged():
            for start in range(0, len(self.validation), VALIDATED_AT_ONCE):
                part = self.validation[start : start + VALIDATED_AT_ONCE]
                batch = self.batch(part, [one.question.support for one in part])
                losses.append(word_losses(self.network, batch))
        return {"validation": torch.cat(losses).mean().item()}

    def state(self) -> dict[str, Any]:
        return {
            "vocabulary": self.vocabulary,
            "network": self.network.state_dict(),
            "optimizer": self._optimizer.state(),
            "draw": self._draw.getstate(),
            "queue": self._queue,
            "examples": len(self._examples),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """With other answer files it goes on, too, with the next epoch."""
        self.network.load_state_dict(state["network"])
        self._optimizer.restore(state["optimizer"])
        self._draw.setstate(state["draw"])
        self._queue = state["queue"] if state["examples"] == len(self._examples) else []

    def _epoch(self) -> list[list[int]]:
        """Batches of sources of much the same length, in any order."""
        size, draw = self._config.batch_size, self._draw
        order = list(range(len(self._examples)))
        draw.shuffle(order)
        lengths = [
            len(one.source(one.question.support)[0]) + 8 * draw.random() for one in self._examples
        ]
        order.sort(key=lengths.__getitem__)
        batches = [order[start : start + size] for start in range(0, len(order) - size + 1, size)]
        draw.shuffle(batches)
        return batches

    def batch(self, examples: Sequence[Example], sentences: Sequence[Sequence[int]]) -> Batch:
        sources = [one.source(some) for one, some in zip(examples, sentences, strict=True)]
        answers = [one.answer for one in examples]
        longest = max(len(words) for words, _ in sources)
        steps = max(map(len, answers)) + 1
        table = self._words
        words = _filled([table.numbers(one) for one, _ in sources], longest, 0)
        written = _filled([table.numbers(one) for one in answers], steps - 1, 0)
        spellings = _Spellings()
        there = _filled([spellings.numbers(one) for one, _ in sources], longest, -1)
        said = _filled([spellings.numbers(one) for one in answers], steps, -2)
        wanted = [[*map(self._place, one), self._places[END]] for one in answers]
        return Batch(
            source=table.features(words),
            kinds=torch.from_numpy(_filled([kinds for _, kinds in sources], longest, 0)),
            present=torch.from_numpy(words > 0),
            written=table.features(written),
            wanted=torch.from_numpy(_filled(wanted, steps, NOTHING)),
            copies=torch.from_numpy(said[:, :, None] == there[:, None, :]),
        )

    def _place(self, word: str) -> int:
        return self._places.get(word, self._places.get(word.lower(), COPIED_ONLY))


def shown_sentences(example: Example, draw: random.Random, other: float) -> list[int]:
    """Those that support the answer, the best first; sometimes with another, mostly after them,
    sometimes in another order."""
    chosen = list(example.question.support)
    if draw.random() < other:
        others = [n for n in range(len(example.page.sentences)) if n not in chosen]
        if others:
            at = draw.randrange(len(chosen) + 1) if draw.random() < 0.3 else len(chosen)
            chosen.insert(at, draw.choice(others))
    elif len(chosen) > 1 and draw.random() < 0.3:
        draw.shuffle(chosen)
    return chosen


def word_losses(network: WriterNetwork, batch: Batch) -> Tensor:
    """In nats, one for each word of the answers that can be written here, and for each end."""
    memory = network.encode(batch.source, batch.kinds, batch.present)
    own, copied = network(memory, batch.present, batch.written)
    known = batch.wanted >= 0
    said = own.gather(-1, batch.wanted.clamp(min=0)[..., None]).squeeze(-1)
    said = said.masked_fill(~known, ABSENT)
    pointed = copied.masked_fill(~batch.copies, ABSENT).logsumexp(-1)
    counted = known | ((batch.wanted == COPIED_ONLY) & batch.copies.any(-1))
    return -torch.logaddexp(said, pointed)[counted]


def _filled(rows: Sequence[Sequence[int]], width: int, filling: int) -> NDArray[np.int64]:
    """(len(rows), width)"""
    filled = np.full((len(rows), width), filling, np.int64)
    for number, row in enumerate(rows):
        filled[number, : len(row)] = row
    return filled


class _Spellings:
    """Numbers for words; capitals do not tell them apart."""

    def __init__(self) -> None:
        self._known: dict[str, int] = {}

    def numbers(self, words: Sequence[str]) -> list[int]:
        return [self._known.setdefault(word.lower(), len(self._known)) for word in words]
