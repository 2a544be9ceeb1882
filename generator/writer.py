"""Writes an answer from the sentences that a reader chose: it copies, or says a common word.

A transformer encoder and decoder with a pointer-generator head (See et al. 2017) over words. Its
own vocabulary holds common words only: no names, no numbers, no links. Those it can only copy
from the question and the sentences, so it cannot make one up.

Shapes: N words of the source, T words written so far, D width, V vocabulary.
"""

import json
import math
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from generator.reader import PRETRAINED, BadWeights, Reader

END = "<eos>"
WORD = re.compile(r"\w+(?:[.,:'’@/&+_-]+\w+)*|[^\w\s]")
MOST_WORDS = 70
TITLE, QUESTION, BEST, FURTHER, WRITTEN = 0, 2, 3, 4, 5
"""What a word of the source stands in; 1 is the user's message before."""
BEFORE = 1
LIMITS = {TITLE: 12, BEFORE: 20, QUESTION: 40, BEST: 60, FURTHER: 60}
SOURCE_WORDS = 150

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Draft:
    text: str
    confidence: float
    """The probability of its least likely word, between 0 and 1."""
    complete: bool
    """It came to its end, rather than to the limit."""


class Writer:
    """For one thread at a time."""

    def __init__(self, reader: Reader, folder: Path = PRETRAINED) -> None:
        """Words are looked up in the reader's vectors. Raises BadWeights."""
        try:
            about = json.loads((folder / "writer.json").read_text("utf-8"))
            self._weights = _restored(load_file(folder / "writer.safetensors"))
            self._vocabulary: list[str] = about["vocabulary"]
            self._layers: tuple[int, int] = (about["encoder_layers"], about["decoder_layers"])
            self._heads: int = about["heads"]
        except (OSError, KeyError, TypeError, ValueError, SafetensorError) as error:
            raise BadWeights(f"{folder} holds no writer that can be read: {error}") from error
        self._features = lru_cache(maxsize=20_000)(reader.word_features)

    def write(self, question: str, before: str, title: str, sentences: Sequence[str]) -> Draft:
        """The most likely word each time. `sentences`: the best first."""
        words, kinds = source_words(question, before, title, sentences)
        memory = self._encoded(words, kinds)
        decoder = _Decoder(self._weights, self._layers[1], self._heads, memory)
        lowered = [word.lower() for word in words]
        written: list[str] = []
        least = 1.0
        given: Array = self._weights["bos"]
        for _ in range(MOST_WORDS):
            own, copied = decoder.step(given)
            chances: defaultdict[str, float] = defaultdict(float)
            for number in np.flatnonzero(own > 1e-3):
                chances[self._vocabulary[number].lower()] += float(own[number])
            best_place: dict[str, int] = {}
            for place in np.flatnonzero(copied > 1e-3).tolist():
                chances[lowered[place]] += float(copied[place])
                known = best_place.get(lowered[place])
                if known is None or copied[place] > copied[known]:
                    best_place[lowered[place]] = place
            chosen = max(chances, key=chances.__getitem__)
            least = min(least, chances[chosen])
            if chosen == END:
                return Draft(joined(written), least, complete=True)
            if chosen in best_place:
                written.append(self._as_inside(words, best_place[chosen], kinds))
            else:
                written.append("I" if chosen == "i" else chosen)
            given = self._given(written[-1])
        return Draft(joined(written), least, complete=False)

    def _as_inside(self, words: Sequence[str], place: int, kinds: Sequence[int]) -> str:
        """A capital that a word has only because it opens a sentence is not copied."""
        word = words[place]
        opens = place == 0 or kinds[place] != kinds[place - 1] or words[place - 1] in ".!?:"
        return word.lower() if opens and word.lower() in self._common else word

    @property
    def _common(self) -> frozenset[str]:
        return frozenset(self._vocabulary)

    def _given(self, word: str) -> Array:
        features = self._features(word) @ self._weights["inp.weight"].T + self._weights["inp.bias"]
        return np.asarray(features + self._weights["typ.weight"][WRITTEN], np.float32)

    def _encoded(self, words: Sequence[str], kinds: Sequence[int]) -> Array:
        """(N, D)"""
        weights = self._weights
        features = np.stack([self._features(word) for word in words])
        states = features @ weights["inp.weight"].T + weights["inp.bias"]
        states = states + weights["pos.weight"][: len(words)] + weights["typ.weight"][list(kinds)]
        for layer in range(self._layers[0]):
            name = f"enc.{layer}"
            seen = _normed(states, weights, f"{name}.n1")
            keys, values = (_linear(seen, weights, f"{name}.a.{part}") for part in ("k", "v"))
            query = _linear(seen, weights, f"{name}.a.q")
            attended = _attend(query, keys, values, self._heads)
            states = states + _linear(attended, weights, f"{name}.a.o")
            states = states + _inner(states, weights, name)
        return _normed(states, weights, "en")


class _Decoder:
    """One word at a time; what its layers need of the words before is kept."""

    def __init__(self, weights: dict[str, Array], layers: int, heads: int, memory: Array) -> None:
        self._weights, self._layers, self._heads, self._memory = weights, layers, heads, memory
        self._told = [
            [_linear(memory, weights, f"dec.{layer}.c.{part}") for part in ("k", "v")]
            for layer in range(layers)
        ]
        width = memory.shape[1]
        self._said = [[np.zeros((0, width), np.float32)] * 2 for _ in range(layers)]
        self._pointers = _linear(memory, weights, "ck")
        self._steps = 0

    def step(self, given: Array) -> tuple[Array, Array]:
        """Probabilities of the vocabulary's words (V,) and of the source's (N,), in all one."""
        weights = self._weights
        state = (given + weights["pos.weight"][self._steps])[None]
        self._steps += 1
        for layer in range(self._layers):
            name = f"dec.{layer}"
            seen = _normed(state, weights, f"{name}.n1")
            for number, part in enumerate(("k", "v")):
                new = _linear(seen, weights, f"{name}.a.{part}")
                self._said[layer][number] = np.concatenate([self._said[layer][number], new])
            query = _linear(seen, weights, f"{name}.a.q")
            keys, values = self._said[layer]
            attended = _attend(query, keys, values, self._heads)
            state = state + _linear(attended, weights, f"{name}.a.o")
            query = _linear(_normed(state, weights, f"{name}.n2"), weights, f"{name}.c.q")
            keys, values = self._told[layer]
            attended = _attend(query, keys, values, self._heads)
            state = state + _linear(attended, weights, f"{name}.c.o")
            state = state + _inner(state, weights, name)
        state = _normed(state, weights, "dn")
        pointer = _linear(state, weights, "cq") @ self._pointers.T / math.sqrt(state.shape[1])
        copied = _softmax(pointer)
        context = np.concatenate([state, copied @ self._memory], axis=1)
        own = float(1 / (1 + np.exp(-_linear(context, weights, "gate")[0, 0])))
        vocabulary = _softmax(_linear(state, weights, "out"))
        return own * vocabulary[0], (1 - own) * copied[0]


def source_words(
    question: str, before: str, title: str, sentences: Sequence[str]
) -> tuple[list[str], list[int]]:
    """The words that may be copied, and what each stands in."""
    parts = [(title, TITLE), (before, BEFORE), (question, QUESTION)]
    parts += [(each, FURTHER if number else BEST) for number, each in enumerate(sentences)]
    words: list[str] = []
    kinds: list[int] = []
    for text, kind in parts:
        found = WORD.findall(text)[: LIMITS[kind]]
        words += found
        kinds += [kind] * len(found)
    return words[:SOURCE_WORDS], kinds[:SOURCE_WORDS]


AMOUNT_BEGINS = re.compile(r"(?<!\d )(?<!\d)[€$£]$")


def joined(words: Sequence[str]) -> str:
    """A text of the words, with a capital at its beginning."""
    text = ""
    for word in words:
        glued = not text or word in ".,:;!?)]%”…" or text[-1] in "([“#"
        glued = glued or bool(AMOUNT_BEGINS.search(text) and word[0].isdigit())  # not "3 € per day"
        text += word if glued else f" {word}"
    return text[:1].upper() + text[1:]


def _restored(stored: dict[str, NDArray[Any]]) -> dict[str, Array]:
    return {
        name: np.asarray(value * stored[f"{name}.scale"][:, None], np.float32)
        if f"{name}.scale" in stored
        else np.asarray(value, np.float32)
        for name, value in stored.items()
        if not name.endswith(".scale")
    }


def _linear(states: Array, weights: dict[str, Array], name: str) -> Array:
    product: Array = states @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]
    return product


def _normed(states: Array, weights: dict[str, Array], name: str) -> Array:
    mean = states.mean(axis=-1, keepdims=True)
    spread = np.sqrt(((states - mean) ** 2).mean(axis=-1, keepdims=True) + 1e-5)
    result: Array = (states - mean) / spread * weights[f"{name}.weight"] + weights[f"{name}.bias"]
    return result


def _inner(states: Array, weights: dict[str, Array], name: str) -> Array:
    inner = _linear(_normed(states, weights, f"{name}.n3"), weights, f"{name}.up")
    gelu = 0.5 * inner * (1 + np.tanh(math.sqrt(2 / math.pi) * (inner + 0.044715 * inner**3)))
    return _linear(np.asarray(gelu, np.float32), weights, f"{name}.down")


def _attend(query: Array, keys: Array, values: Array, heads: int) -> Array:
    """Multi-head attention without its projections; (queries, D)."""
    count, width = query.shape
    size = width // heads
    split = [each.reshape(-1, heads, size).transpose(1, 0, 2) for each in (query, keys, values)]
    paid = _softmax(split[0] @ split[1].transpose(0, 2, 1) / math.sqrt(size))
    return np.asarray((paid @ split[2]).transpose(1, 0, 2).reshape(count, width), np.float32)


def _softmax(scores: Array) -> Array:
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    result: Array = powers / powers.sum(axis=-1, keepdims=True)
    return result
