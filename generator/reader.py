"""The network that finds and reads passages: NumPy looks words up, ONNX Runtime does the rest.

It is a MiniLM (Wang et al. 2020) taught by `generator.teaching`. Each passage is read by
itself; a sentence's vector is the mean over its words, in the light of its passage. Those
vectors are searched, and of the passages that they find the question's words are compared with
each single word (late interaction: ColBERT, Khattab and Zaharia 2020). Then the question is read
once more beside each of the best passages: its words look at theirs (as in DeFormer, Cao et al.
2020, only the upper layers do), and each sentence gets a score against "nothing here answers".

Shapes: P passages, S sentences of the largest, T tokens, D width, H heads, W the narrow width of
single words.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from generator.interface import ChatMessage, Passage
from generator.judging import Calibration, Judge, Told, softmax_with_zero
from generator.question import Question, last_messages, leaning_features
from generator.reader_graph import ABSENT, ReaderShape, encoder, reader
from generator.sentences import Sentence, gives_orders, sentences_of
from generator.vectors import Array, PassageVectors, QuestionVectors, pooled, unit

PRETRAINED = Path(__file__).parent / "pretrained"
CLS, SEP, UNK = "[CLS]", "[SEP]", "[UNK]"
TITLE_TOKENS, SENTENCE_TOKENS, PASSAGE_TOKENS = 24, 90, 320
QUESTION_TOKENS, BEFORE_TOKENS = 40, 24
TITLE_WEIGHT = 0.3
"""Of the closeness to a passage's title, beside that to its sentence. Chosen on ten departments of
benchmarks/answers/town."""
LEANING_NEEDED = -1.0
"""In log-odds. Of the follow-ups of six validation fields 96 % are taken for one, and 21 % of the
other questions."""
REMEMBERED = 48
"""So many passages are kept as they were read, about 1 MB each: many questions are about few."""
VECTORS = 4
"""Raised when `passage_vectors` come out otherwise for the same weights."""


@dataclass(frozen=True, slots=True)
class Scored:
    sentence: Sentence
    share: float
    """Of the probability that this one answers; together with that of "nothing here answers", all
    shares of a reading sum to one."""
    matched: float = 0.0
    """How much of the question stands in it, as `QuestionVectors.matched` says."""


@dataclass(frozen=True, slots=True)
class Reading:
    sentences: tuple[Scored, ...]
    """Best first."""
    support: float
    """The calibrated probability that one of them answers."""


@dataclass(frozen=True, slots=True)
class _Text:
    """A passage as tokens, and where its sentences stand in them."""

    tokens: list[int]
    spans: list[tuple[int, int]]
    sentences: list[Sentence]


class BadWeights(ValueError):
    """The folder does not hold a reader; says what is wrong."""


class Reader:
    """Any number of threads may use one."""

    def __init__(self, folder: Path = PRETRAINED) -> None:
        """Raises BadWeights."""
        try:
            about = json.loads((folder / "reader.json").read_text("utf-8"))
            weights = load_file(folder / "reader.safetensors")
            self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
            self.shape = ReaderShape(**about["shape"])
            self.version = f"{about['version']}-{VECTORS}"
            self._calibration = Calibration(**about["calibration"])
            self._weights = _restored(weights, self.shape)
            self._judge = Judge(weights)
            self._encoder = _open(encoder(self.shape), weights)
            self._reader = _open(reader(self.shape), weights)
        except Exception as error:  # each of the libraries has errors of its own
            raise BadWeights(f"{folder} holds no reader that can be read: {error}") from error
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._special = {name: self._tokenizer.token_to_id(name) or 0 for name in (CLS, SEP, UNK)}
        self._question = lru_cache(maxsize=16)(self._read_question)
        self._title = lru_cache(maxsize=256)(self._title_vector)
        self._told = lru_cache(maxsize=REMEMBERED)(self._tell)

    def sentence_vectors(self, passages: Sequence[Passage]) -> list[Array]:
        """For each passage (its sentences, D), as in `passage_vectors`."""
        return [each.sentences for each in self.passage_vectors(passages)]

    def passage_vectors(self, passages: Sequence[Passage]) -> list[PassageVectors]:
        """The sentence that is closest to a question's vector is most likely to answer. Sentences
        are of length one, and then lean towards the title."""
        texts = [self._text(passage) for passage in passages]
        found: list[PassageVectors] = []
        for start in range(0, len(texts), 8):
            batch = texts[start : start + 8]
            states = self._encoded(batch)["states"]
            for passage, text, row in zip(passages[start : start + 8], batch, states, strict=True):
                title = np.float32(TITLE_WEIGHT) * self._title(passage.title or passage.document)
                words = self._words(row[: len(text.tokens)])
                found.append(PassageVectors(unit(pooled(row, text.spans)) + title, words))
        return found

    def question(self, messages: Sequence[ChatMessage]) -> Question:
        """The last one, with the message before where it leans on that."""
        text, before = last_messages(messages)
        alone = Question(text)
        if not before:
            return alone
        *weights, offset = self._weights["leaning"]
        leaning = float(leaning_features(self._vector(alone), text) @ np.array(weights) + offset)
        return Question(text, before) if leaning > LEANING_NEEDED else alone

    def question_vectors(self, question: Question) -> QuestionVectors:
        whole = self._vector(question)
        if question.before:
            whole = whole + self._vector(Question(question.before))
        read = self._question(question)
        states = read["states"][0]
        weighed = states @ self._weights["weigh"] + self._weights["weigh.bias"]
        weights = np.logaddexp(weighed, np.float32(0)) * read["rarity"]
        words = self._words(states)
        return QuestionVectors(unit(whole[None])[0], words, weights / weights.sum())

    def read(self, question: Question, passages: Sequence[Passage]) -> Reading:
        texts = [text for text in map(self._text, passages) if text.sentences]
        if not texts:
            return Reading((), 0.0)
        read = self._question(question)
        told = [self._told(tuple(text.tokens)) for text in texts]
        asked, alone = self.question_vectors(question), self._vector(question)
        spans = [text.spans for text in texts]
        judged = [
            self._judge.judge(*each, asked, alone)
            for each in zip(told, spans, *self._together(read, told), strict=True)
        ]
        shares, nothing = softmax_with_zero(np.concatenate([one.scores for one in judged]))
        closeness = sorted((one.closeness for one in judged), reverse=True)
        matched, least = max(one.whole for one in judged)
        support = self._calibration.support(
            nothing, closeness, read["low"].shape[1], matched=matched, least=least
        )
        of_sentences = np.concatenate([one.matched for one in judged]).tolist()
        sentences = [sentence for text in texts for sentence in text.sentences]
        ranked = sorted(
            map(Scored, sentences, shares.tolist(), of_sentences), key=lambda scored: -scored.share
        )
        return Reading(tuple(ranked), support)

    def word_features(self, word: str) -> Array:
        """What a writer knows of a word (2 D + 5,): the mean of its pieces' vectors, half of the
        last one's, and whether it is capital, holds digits, is long, is a sign, is rare."""
        ids = self._ids(word, 12) or [self._special[UNK]]
        pieces = self._weights["words"][ids] * self._weights["words.scale"][ids, None]
        shape = (
            word[:1].isupper(),
            any(map(str.isdigit, word)),
            len(word) / 10,
            not word[0].isalnum(),
            len(ids) / 6,
        )
        return np.concatenate([pieces.mean(axis=0), 0.5 * pieces[-1], np.array(shape, np.float32)])

    def _vector(self, question: Question) -> Array:
        vector: Array = unit(self._question(question)["states"].mean(axis=1))[0]
        return vector

    def _words(self, states: Array) -> Array:
        """(T, D) to (T, W)"""
        return unit(states @ self._weights["narrow"])

    def _title_vector(self, title: str) -> Array:
        tokens = [self._special[CLS], *self._ids(title, TITLE_TOKENS), self._special[SEP]]
        vector: Array = unit(self._encoded([_Text(tokens, [], [])])["states"].mean(axis=1))[0]
        return vector

    def _text(self, passage: Passage) -> _Text:
        tokens = [self._special[CLS], *self._ids(passage.title, TITLE_TOKENS), self._special[SEP]]
        spans: list[tuple[int, int]] = []
        kept: list[Sentence] = []
        for sentence in sentences_of(passage):
            if gives_orders(sentence.shown):
                continue
            heading = f"{sentence.heading}: " if sentence.heading else ""
            ids = self._ids(heading + sentence.shown, SENTENCE_TOKENS)
            if ids and len(tokens) + len(ids) < PASSAGE_TOKENS:
                spans.append((len(tokens), len(tokens) + len(ids)))
                kept.append(sentence)
                tokens += ids
        return _Text([*tokens, self._special[SEP]], spans, kept)

    def _ids(self, text: str, most: int) -> list[int]:
        # No text has more tokens than characters; what lies far behind need not be looked at.
        ids: list[int] = self._tokenizer.encode(text[: 20 * most], add_special_tokens=False).ids
        return ids[:most]

    def _read_question(self, asked: Question) -> Mapping[str, Array]:
        tokens = [self._special[CLS]]
        if asked.before:
            before = self._ids(asked.before, 20 * BEFORE_TOKENS)
            tokens += [*before[-BEFORE_TOKENS:], self._special[SEP]]
        tokens += [*self._ids(asked.text, QUESTION_TOKENS), self._special[SEP]]
        found = self._encoded([_Text(tokens, [], [])])
        return {**found, "rarity": self._weights["rarity"][tokens]}

    def _encoded(self, texts: Sequence[_Text]) -> dict[str, Array]:
        """What the graph of `encoder` gives, and `padding` (P, 1, 1, T)."""
        longest = max(len(text.tokens) for text in texts)
        ids = np.zeros((len(texts), longest), np.int64)
        padding = np.full((len(texts), 1, 1, longest), ABSENT, np.float32)
        for row, text in enumerate(texts):
            ids[row, : len(text.tokens)] = text.tokens
            padding[row, ..., : len(text.tokens)] = 0
        words = self._weights["words"][ids] * self._weights["words.scale"][ids, None]
        inputs = {"vectors": words + self._weights["places"][:longest], "padding": padding}
        names = [output.name for output in self._encoder.get_outputs()]
        found = dict(zip(names, self._encoder.run(names, inputs), strict=True))
        return {**found, "padding": padding}

    def _tell(self, tokens: tuple[int, ...]) -> Told:
        found = self._encoded([_Text(list(tokens), [], [])])
        kept = [name for name in found if name.startswith(("key", "value"))]
        looked_at = {name: found[name][0].astype(np.float16) for name in kept}
        states = found["states"][0]
        return Told(states, self._words(states), states @ self._weights["spot"], looked_at)

    def _together(self, question: Mapping[str, Array], told: Sequence[Told]) -> tuple[Array, Array]:
        """States (P, T, D) of the question, read beside each passage, and the attention
        (P, H, T, L) that it paid to the passage."""
        count, longest = len(told), max(len(one.states) for one in told)
        absent = np.full((count, 1, 1, longest), ABSENT, np.float32)
        inputs = {
            name: np.zeros((count, size[0], longest, size[2]), np.float32)
            for name, size in ((name, one.shape) for name, one in told[0].looked_at.items())
        }
        for row, one in enumerate(told):
            absent[row, ..., : len(one.states)] = 0
            for name, values in one.looked_at.items():
                inputs[name][row, :, : len(one.states)] = values
        inputs["low"] = np.repeat(question["low"], count, axis=0)
        asked = np.repeat(question["padding"], count, axis=0)
        inputs["padding"] = np.concatenate([absent, asked], axis=-1)
        states, attention = self._reader.run(["states", "attention"], inputs)
        return states, attention[..., :longest]


def _restored(stored: Mapping[str, NDArray[Any]], shape: ReaderShape) -> dict[str, Any]:
    """What NumPy works with; the rows of word vectors stay in eight bits."""
    weights: dict[str, Any] = {
        name: stored[name] for name in ("leaning", "words", "words.scale", "weigh", "weigh.bias")
    }
    for name in ("narrow", "spot"):
        weights[name] = stored[name] * stored[f"{name}.scale"]
    weights["rarity"] = stored["rarity"].astype(np.float32)
    weights["places"] = stored["positions"] * stored["positions.scale"][:, None] + stored["kind"]
    if weights["words"].shape != (shape.vocabulary, shape.width):
        raise ValueError("word vectors of another shape")
    return weights


def _open(graph: bytes, weights: Mapping[str, NDArray[Any]]) -> ort.InferenceSession:
    import onnx

    initializers = onnx.load_from_string(graph).graph.initializer
    names = [one.name for one in initializers if one.data_location == onnx.TensorProto.EXTERNAL]
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    # Without this a processor that has AVX2 and no VNNI saturates sums of eight-bit products.
    options.add_session_config_entry("session.x64quantprecision", "1")
    options.log_severity_level = 3
    values = [ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(weights[n])) for n in names]
    options.add_external_initializers(names, values)
    return ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
