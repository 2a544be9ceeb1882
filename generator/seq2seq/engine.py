"""The trained network, computed with NumPy: no torch where replies are served.

Shapes as in network.py; K hypotheses of one reply stand side by side.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from generator.seq2seq.config import NetworkShape
from generator.seq2seq.tokens import UNSPEAKABLE

Array = NDArray[np.float32]


def weight_sizes(shape: NetworkShape) -> dict[str, tuple[int, ...]]:
    """What network.py calls its weights, and how large they are."""
    vocabulary, embedding, hidden = shape.vocabulary, shape.embedding, shape.hidden
    half = hidden // 2
    sizes: dict[str, tuple[int, ...]] = {
        "embedding.weight": (vocabulary, embedding),
        "bridge.weight": (hidden, hidden),
        "bridge.bias": (hidden,),
        "attention.weight": (hidden, hidden),
        "combine.weight": (embedding, 2 * hidden),
        "combine.bias": (embedding,),
        "output_bias": (vocabulary,),
    }
    for name, inputs, width in (
        ("forth.{}_l0", embedding, half),
        ("back.{}_l0", embedding, half),
        ("decoder.{}", 2 * embedding, hidden),
    ):
        sizes[name.format("weight_ih")] = (3 * width, inputs)
        sizes[name.format("weight_hh")] = (3 * width, width)
        sizes[name.format("bias_ih")] = (3 * width,)
        sizes[name.format("bias_hh")] = (3 * width,)
    return sizes


class Engine:
    def __init__(self, shape: NetworkShape, weights: Mapping[str, Array]) -> None:
        self.shape = shape
        self.weights = dict(weights)
        self._forth = _GRU(weights, "forth.{}_l0")
        self._back = _GRU(weights, "back.{}_l0")
        self._decoder = _GRU(weights, "decoder.{}")
        self._embedding = weights["embedding.weight"]
        self._scale: Array = np.array(math.sqrt(shape.embedding), np.float32)
        bias = weights["output_bias"].copy()
        bias[list(UNSPEAKABLE)] = -np.inf
        self._output_bias = bias

    @property
    def weight_bytes(self) -> int:
        return sum(weight.nbytes for weight in self.weights.values())

    def read(self, source: Sequence[int]) -> "Reply":
        """The reply to a context, before its first word."""
        vectors = self._embedding[list(source)]  # (S, D)
        forth, back = self._forth.run(vectors), self._back.run(vectors[::-1])
        states = np.concatenate([forth, back[::-1]], axis=1)  # (S, H)
        last = np.concatenate([forth[-1], back[-1]])
        hidden = np.tanh(self._linear("bridge", last[None]))
        return Reply(
            engine=self,
            states=states,
            keys=self._linear("attention", states),
            hidden=hidden,
            attended=np.zeros((1, self.shape.embedding), np.float32),
            attention=np.zeros((1, len(states)), np.float32),
        )

    def advance(self, tokens: Sequence[int], reply: "Reply", parents: Sequence[int]) -> None:
        """Moves K hypotheses on by a token."""
        rows = list(parents)
        inputs = np.concatenate([self._embedding[list(tokens)], reply.attended[rows]], axis=1)
        hidden = self._decoder.step(self._decoder.inputs(inputs), reply.hidden[rows])
        weights = _softmax(hidden @ reply.keys.T)  # (K, S)
        context = weights @ reply.states
        reply.hidden = hidden
        reply.attended = np.tanh(self._linear("combine", np.concatenate([context, hidden], axis=1)))
        reply.attention = weights

    def log_probabilities(self, attended: Array) -> Array:
        """(K, V); of what nobody can say, minus infinity."""
        scaled: Array = attended * self._scale
        logits = scaled @ self._embedding.T + self._output_bias
        logits -= logits.max(axis=1, keepdims=True)
        logits -= np.log(np.exp(logits).sum(axis=1, keepdims=True))
        return logits

    def _linear(self, name: str, values: Array) -> Array:
        product = values @ self.weights[f"{name}.weight"].T
        bias = self.weights.get(f"{name}.bias")
        return product if bias is None else product + bias


@dataclass(slots=True)
class Reply:
    """One reply on its way: a `Decoding`."""

    engine: Engine
    states: Array  # (S, H)
    keys: Array  # (S, H)
    hidden: Array  # (K, H)
    attended: Array  # (K, D)
    attention: Array  # (K, S) of the last step

    def step(self, tokens: Sequence[int], parents: Sequence[int]) -> Array:
        self.engine.advance(tokens, self, parents)
        return self.engine.log_probabilities(self.attended)

    @property
    def state_bytes(self) -> int:
        parts = (self.states, self.keys, self.hidden, self.attended)
        return sum(part.nbytes for part in parts)


class _GRU:
    def __init__(self, weights: Mapping[str, Array], name: str) -> None:
        self._of_input, self._of_state = (
            np.ascontiguousarray(weights[name.format(f"weight_{kind}")].T) for kind in ("ih", "hh")
        )
        self._input_bias, self._state_bias = (
            weights[name.format(f"bias_{kind}")] for kind in ("ih", "hh")
        )

    def run(self, vectors: Array) -> Array:
        """(S, D) to the states (S, H)."""
        inputs = self.inputs(vectors)
        state = np.zeros((1, len(self._of_state)), np.float32)
        states = []
        for step in range(len(vectors)):
            state = self.step(inputs[step : step + 1], state)
            states.append(state[0])
        return np.stack(states)

    def inputs(self, vectors: Array) -> Array:
        return vectors @ self._of_input + self._input_bias

    def step(self, inputs: Array, state: Array) -> Array:
        """The gates in torch's order: reset, update, new."""
        width = state.shape[1]
        recurrent = state @ self._of_state + self._state_bias
        gates = _sigmoid(inputs[:, : 2 * width] + recurrent[:, : 2 * width])
        reset, update = gates[:, :width], gates[:, width:]
        new = np.tanh(inputs[:, 2 * width :] + reset * recurrent[:, 2 * width :])
        following: Array = new + update * (state - new)
        return following


def _sigmoid(values: Array) -> Array:
    # By tanh: exp would overflow, with a warning, where the answer is simply 0.
    shares: Array = 0.5 * np.tanh(0.5 * values) + 0.5
    return shares


def _softmax(scores: Array) -> Array:
    weights: Array = np.exp(scores - scores.max(axis=1, keepdims=True))
    weights /= weights.sum(axis=1, keepdims=True)
    return weights
