"""Runs a trained network: NumPy looks the words up, ONNX Runtime does the rest.

The weights are eight-bit in the file and 32-bit in memory, where processors are fastest with
them. Shapes: B utterances, T tokens of the longest, D embedding, F features, I intents.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from intent import graph
from intent.quantization import QuantizedRows
from intent.shape import NetworkShape
from intent.text import NGRAM_BUCKETS, Vocabulary, ngram_hashes

Array = NDArray[np.float32]
OWN = "encoder.word_vectors.own.weight"
NGRAMS = "encoder.word_vectors.ngrams.weight"
BATCH = 64
CACHED_WORDS = 20_000
USUAL_TOKENS = 64


@dataclass(frozen=True)
class Network:
    """All that a trained network is. Matrices are quantized, vectors are not."""

    shape: NetworkShape
    vocabulary: Vocabulary
    matrices: Mapping[str, QuantizedRows]
    vectors: Mapping[str, Array]
    graph: bytes

    def chain(self) -> tuple[Array, Array, Array]:
        """The tagger's: scores of a step from label to label (L, L), of the first label and of
        the last (L,)."""
        steps = self.matrices["tagger.chain.transitions"].restore()
        return steps, self.vectors["tagger.chain.first"], self.vectors["tagger.chain.last"]


@dataclass(frozen=True)
class Activations:
    logits: Array  # (B, I)
    features: Array  # (B, F)
    tags: list[Array]  # for each utterance, scores of its tokens' labels; none without a tagger


class Engine:
    """Raises ValueError for a graph that does not fit the weights. For one thread at a time."""

    def __init__(self, network: Network) -> None:
        self.shape = network.shape
        self._words = _WordVectors(network)
        self._session, self._weights = _open(network)
        self._alone: dict[int, dict[str, NDArray[Any]]] = {}
        self._outputs = ["logits", "features", *(["tags"] if network.shape.tags else [])]

    def run(
        self, tokenized: Sequence[Sequence[str]], token_features: Sequence[Array] = ()
    ) -> Activations:
        """No utterance may be without tokens. `token_features`: for each utterance (T, K);
        only a tagger wants them."""
        if len(tokenized) == 1:  # nothing to sort, nothing to copy
            found = self._run_batch(tokenized, token_features)
            return Activations(found[0], found[1], [each[:, 0] for each in found[2:]])
        logits = np.empty((len(tokenized), self.shape.intents), np.float32)
        features = np.empty((len(tokenized), self.shape.features), np.float32)
        # Utterances of similar length share a batch, so that little is computed on padding.
        order = sorted(range(len(tokenized)), key=lambda place: len(tokenized[place]))
        tags: list[Array] = [logits] * (len(tokenized) if self.shape.tags else 0)
        for start in range(0, len(order), BATCH):
            chosen = order[start : start + BATCH]
            told = [token_features[place] for place in chosen] if token_features else []
            found = self._run_batch([tokenized[place] for place in chosen], told)
            logits[chosen], features[chosen] = found[:2]
            for row, place in enumerate(chosen if self.shape.tags else ()):
                tags[place] = found[2][: len(tokenized[place]), row]
        return Activations(logits, features, tags)

    def _run_batch(
        self, tokenized: Sequence[Sequence[str]], token_features: Sequence[Array]
    ) -> list[Array]:
        longest, count = len(tokenized[-1]), len(tokenized)
        self._words.make_room(longest * count)
        if count == 1:
            rows = np.array(self._words.rows(tokenized[0]))[:, None]
            inputs = dict(self._sizes_alone(longest))
        else:
            rows = np.zeros((longest, count), np.int64)
            for place, tokens in enumerate(tokenized):
                rows[: len(tokens), place] = self._words.rows(tokens)
            inputs = _sizes(np.array([len(tokens) for tokens in tokenized], np.int32))
        inputs["vectors"] = self._words.table[rows]
        if self.shape.tags:
            inputs["token_features"] = self._stacked(token_features, (longest, count))
        found: list[Array] = self._session.run(self._outputs, inputs)
        return found

    def _stacked(self, token_features: Sequence[Array], size: tuple[int, int]) -> Array:
        stacked = np.zeros((*size, self.shape.token_features), np.float32)
        for place, told in enumerate(token_features):
            stacked[: len(told), place] = told
        return stacked

    def _sizes_alone(self, length: int) -> Mapping[str, NDArray[Any]]:
        """`_sizes` of one utterance, remembered for the usual lengths."""
        found = self._alone.get(length)
        if found is None:
            found = _sizes(np.array([length], np.int32))
            if length <= USUAL_TOKENS:
                self._alone[length] = found
        return found


def _sizes(lengths: NDArray[np.int32]) -> dict[str, NDArray[Any]]:
    """What the graph wants to know of utterances besides their words' vectors."""
    absent = np.arange(lengths.max())[:, None] >= lengths
    return {
        "lengths": lengths,
        "shares": (1 / lengths).astype(np.float32)[:, None],
        "padding": np.where(absent, np.float32(graph.ABSENT), np.float32(0))[:, :, None],
    }


def _open(network: Network) -> tuple[ort.InferenceSession, list[ort.OrtValue]]:
    """The session, and the weights that it reads as long as it lives."""
    weights = {name: matrix.restore() for name, matrix in network.matrices.items()}
    named = graph.weights_for(network.shape, {**weights, **network.vectors})
    values = [ort.OrtValue.ortvalue_from_numpy(weight) for weight in named.values()]
    options = ort.SessionOptions()
    # A pool of threads costs more than it gains on so little work, and its members spin.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_external_initializers(list(named), values)
    try:
        session = ort.InferenceSession(network.graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime's own error types are not part of its interface
        raise ValueError(f"a graph that ONNX Runtime refuses ({str(error)[:200]})") from error
    return session, values


class _WordVectors:
    """Half a word's own embedding, half the mean of its n-grams' (`intent.network`), worked out
    when a word is first seen. Row 0 of the table is padding."""

    def __init__(self, network: Network) -> None:
        self._own, self._ngrams = network.matrices[OWN], network.matrices[NGRAMS]
        self._vocabulary = network.vocabulary
        self._row_of: dict[str, int] = {}
        self.table = np.zeros((1024, network.shape.embedding), np.float32)

    def rows(self, tokens: Sequence[str]) -> list[int]:
        """There must be room for them. The rows hold until `make_room` is called again."""
        try:
            return [self._row_of[token] for token in tokens]
        except KeyError:
            return [self._row_of.get(token) or self._add(token) for token in tokens]

    def make_room(self, count: int) -> None:
        """For so many words that may be new."""
        used = 1 + len(self._row_of)
        if used + count > CACHED_WORDS:
            self._row_of.clear()
        elif used + count > len(self.table):
            more = np.zeros(
                (min(2 * len(self.table), CACHED_WORDS), self.table.shape[1]), np.float32
            )
            more[:used] = self.table[:used]
            self.table = more

    def _add(self, word: str) -> int:
        buckets = [value % NGRAM_BUCKETS for value in ngram_hashes(word)]
        vector = self._ngrams.rows(buckets).mean(axis=0)
        number = self._vocabulary.number(word)
        if number:
            vector = 0.5 * (self._own.rows([number])[0] + vector)
        row = self._row_of[word] = 1 + len(self._row_of)
        self.table[row] = vector
        return row
