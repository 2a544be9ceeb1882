"""The network that finds and reads passages: NumPy looks words up, ONNX Runtime does the rest.

It is a MiniLM (Wang et al. 2020) taught by `generator.teaching`. Each passage is read by
itself; a sentence's vector is the mean over its words, in the light of its passage. Those
vectors are searched. Then the question is read once more beside each of the best passages:
its words look at theirs (as in DeFormer, Cao et al. 2020, only the upper layers do), and each
sentence gets a score against "nothing here answers".

Shapes: P passages, S sentences of the largest, T tokens, D width, H heads.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from generator.interface import ChatMessage, Passage
from generator.question import Question, last_messages, leaning_features
from generator.reader_graph import ABSENT, ReaderShape, encoder, reader
from generator.sentences import Sentence, gives_orders, sentences_of

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
VECTORS = 2
"""Raised when `sentence_vectors` come out otherwise for the same weights."""

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Scored:
    sentence: Sentence
    share: float
    """Of the probability that this one answers; together with that of "nothing here answers", all
    shares of a reading sum to one."""


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


@dataclass(frozen=True, slots=True)
class Calibration:
    """A logistic regression (Platt 1999), fitted on questions that no training saw."""

    odds: float
    closeness: float
    lead: float
    length: float
    offset: float

    def support(self, nothing: float, closeness: Sequence[float], tokens: int) -> float:
        """`nothing`: the share of "nothing here answers". `closeness`: of each passage's closest
        sentence to the question, the closest first. `tokens`: of the question."""
        odds = math.log(max(1 - nothing, 1e-6) / max(nothing, 1e-6))
        lead = closeness[0] - closeness[1] if len(closeness) > 1 else 0.0
        value = (
            self.odds * odds
            + self.closeness * closeness[0]
            + self.lead * lead
            + self.length * math.log(tokens)
            + self.offset
        )
        return 1 / (1 + math.exp(-value))


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
            self._encoder = _open(encoder(self.shape), weights)
            self._reader = _open(reader(self.shape), weights)
        except Exception as error:  # each of the libraries has errors of its own
            raise BadWeights(f"{folder} holds no reader that can be read: {error}") from error
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._special = {name: self._tokenizer.token_to_id(name) or 0 for name in (CLS, SEP, UNK)}
        self._question = lru_cache(maxsize=16)(self._read_question)
        self._title = lru_cache(maxsize=256)(self._title_vector)

    def sentence_vectors(self, passages: Sequence[Passage]) -> list[Array]:
        """For each passage (its sentences, D): what is closest to a question's vector is most
        likely to answer. Of length one each, and leaning towards the title."""
        texts = [self._text(passage) for passage in passages]
        found: list[Array] = []
        for start in range(0, len(texts), 8):
            batch = texts[start : start + 8]
            found += [_unit(each) for each in _pooled(self._encoded(batch)["states"], batch)]
        titles = [self._title(passage.title or passage.document) for passage in passages]
        return [
            each + np.float32(TITLE_WEIGHT) * title
            for each, title in zip(found, titles, strict=True)
        ]

    def question(self, messages: Sequence[ChatMessage]) -> Question:
        """The last one, with the message before where it leans on that."""
        text, before = last_messages(messages)
        alone = Question(text)
        if not before:
            return alone
        *weights, offset = self._weights["leaning"]
        leaning = float(leaning_features(self._vector(alone), text) @ np.array(weights) + offset)
        return Question(text, before) if leaning > LEANING_NEEDED else alone

    def question_vector(self, question: Question) -> Array:
        """(D,), of length one: what passages are searched with."""
        vector = self._vector(question)
        if question.before:
            vector = vector + self._vector(Question(question.before))
        return np.asarray(_unit(vector[None])[0], np.float32)

    def read(self, question: Question, passages: Sequence[Passage]) -> Reading:
        texts = [text for text in map(self._text, passages) if text.sentences]
        if not texts:
            return Reading((), 0.0)
        read = self._question(question)
        told = self._encoded(texts)
        states, attention = self._together(read, told, texts)
        vectors = _pooled(told["states"], texts)
        scores = [
            self._scores(*each)
            for each in zip(
                states,
                attention,
                vectors,
                [text.spans for text in texts],
                [read["states"].mean(axis=1)[0]] * len(texts),
                strict=True,
            )
        ]
        shares, nothing = _softmax_with_zero(np.concatenate(scores))
        sentences = [sentence for text in texts for sentence in text.sentences]
        asked = self._vector(question)
        closeness = sorted(float((_unit(each) @ asked).max()) for each in vectors)[::-1]
        support = self._calibration.support(nothing, closeness, read["low"].shape[1])
        ranked = sorted(
            (Scored(*pair) for pair in zip(sentences, shares.tolist(), strict=True)),
            key=lambda scored: -scored.share,
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
        vector: Array = _unit(self._question(question)["states"].mean(axis=1))[0]
        return vector

    def _title_vector(self, title: str) -> Array:
        tokens = [self._special[CLS], *self._ids(title, TITLE_TOKENS), self._special[SEP]]
        vector: Array = _unit(self._encoded([_Text(tokens, [], [])])["states"].mean(axis=1))[0]
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
        return self._encoded([_Text(tokens, [], [])])

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

    def _together(
        self, question: Mapping[str, Array], told: Mapping[str, Array], texts: Sequence[_Text]
    ) -> tuple[Array, Array]:
        """States (P, T, D) of the question, read beside each passage, and the attention
        (P, H, T, L) that it paid to the passage."""
        count = len(texts)
        inputs = {name: told[name] for name in told if name.startswith(("key", "value"))}
        inputs["low"] = np.repeat(question["low"], count, axis=0)
        asked = np.repeat(question["padding"], count, axis=0)
        inputs["padding"] = np.concatenate([told["padding"], asked], axis=-1)
        states, attention = self._reader.run(["states", "attention"], inputs)
        return states, attention[..., : told["padding"].shape[-1]]

    def _scores(
        self,
        states: Array,
        attention: Array,
        vectors: Array,
        spans: Sequence[tuple[int, int]],
        question: Array,
    ) -> Array:
        """(S,): how well each sentence of one passage answers; 0 is as well as none."""
        weights = self._weights
        mean = states.mean(axis=0)
        close = _unit(vectors) @ _unit(question[None])[0]
        paid = attention.mean(axis=1)  # (H, L)
        mass = np.log(
            np.stack([paid[:, start:end].sum(axis=1) for start, end in spans]) + np.float32(1e-4)
        )
        looked = np.concatenate([mass, mass - mass.max(axis=0)], axis=1) @ weights["looked"]
        asked = np.broadcast_to(mean, vectors.shape)
        features = np.concatenate(
            [
                asked,
                vectors,
                asked * vectors,
                np.abs(asked - vectors),
                4 * close[:, None],
                looked[:, None],
            ],
            axis=1,
        )
        score = self._head("score", features) + 0.3 * np.exp(weights["closeness"]) * close + looked
        nothing = self._head("nothing", np.concatenate([states[0], mean])[None])
        return np.asarray(score - nothing, np.float32)

    def _head(self, name: str, features: Array) -> Array:
        weights = self._weights
        inner = _gelu(features @ weights[f"{name}.in"] + weights[f"{name}.in.bias"])
        return np.asarray(inner @ weights[f"{name}.out"] + weights[f"{name}.out.bias"], np.float32)


def closest(
    vector: Array, passages: Sequence[Passage], vectors: Sequence[Array], *, most: int = 8
) -> list[Passage]:
    """The passages whose best sentence is closest to a question, the closest first; `vectors` as
    `Reader.sentence_vectors` gives them."""
    scores = [float((each @ vector).max(initial=-1.0)) for each in vectors]
    scored = [replace(one, score=score) for one, score in zip(passages, scores, strict=True)]
    return sorted(scored, key=lambda passage: -passage.score)[:most]


def _pooled(states: Array, texts: Sequence[_Text]) -> list[Array]:
    """For each text (its sentences, D)."""
    width = states.shape[-1]
    return [
        np.stack([row[start:end].mean(axis=0) for start, end in text.spans])
        if text.spans
        else np.zeros((0, width), np.float32)
        for row, text in zip(states, texts, strict=True)
    ]


def _unit(vectors: Array) -> Array:
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, 1e-9), np.float32)


def _softmax_with_zero(scores: Array) -> tuple[Array, float]:
    """Shares of the scores and of a score of zero."""
    largest = max(float(scores.max()), 0.0)
    powers, zero = np.exp(scores - largest), float(np.exp(-largest))
    whole = float(powers.sum()) + zero
    return powers / np.float32(whole), zero / whole


def _gelu(values: Array) -> Array:
    """Its approximation by tanh (Hendrycks and Gimpel 2016)."""
    bent = np.tanh(np.float32(np.sqrt(2 / np.pi)) * (values + np.float32(0.044715) * values**3))
    return np.asarray(np.float32(0.5) * values * (1 + bent), np.float32)


def _restored(stored: Mapping[str, NDArray[Any]], shape: ReaderShape) -> dict[str, Any]:
    """What NumPy works with; the rows of word vectors stay in eight bits."""
    names = [
        f"{head}.{part}{kind}"
        for head in ("score", "nothing")
        for part in ("in", "out")
        for kind in ("", ".bias")
    ]
    weights: dict[str, Any] = {
        name: stored[name]
        for name in (*names, "looked", "closeness", "leaning", "words", "words.scale")
    }
    for name in ("score.in", "nothing.in"):
        weights[name] = weights[name] * stored[f"{name}.scale"]
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
    options.log_severity_level = 3
    values = [ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(weights[n])) for n in names]
    options.add_external_initializers(names, values)
    return ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
