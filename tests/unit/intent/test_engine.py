"""Every path gives the same answers: torch and ONNX Runtime, alone and in a batch."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from intent import graph
from intent.encoder import split_weights
from intent.engine import CACHED_WORDS, Engine, Network
from intent.network import BatchBuilder, IntentNetwork
from intent.quantization import quantize
from intent.shape import CELLS, Cell, NetworkShape
from intent.text import Vocabulary

VOCABULARY = Vocabulary(("hello", "order", "parcel"))
UTTERANCES = [
    ["hello"],
    ["where", "is", "my", "order", "?"],
    ["日", "parcel"],
    ["hello"] * 40,
    ["parcle", "parcel"],
]


def small(
    cell: Cell = "gru",
    layers: int = 1,
    directions: int = 2,
    layer_norm: bool = False,
    tags: int = 0,
) -> tuple[IntentNetwork, Network]:
    """The same network for torch and for the engine."""
    shape = NetworkShape(
        vocabulary=3,
        intents=4,
        cell=cell,
        embedding=10,
        hidden=6,
        layers=layers,
        directions=directions,
        features=5,
        layer_norm=layer_norm,
        tags=tags,
        token_features=3 if tags else 0,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        trained = IntentNetwork(shape).eval().requires_grad_(False)
        for parameter in trained.parameters():  # nothing stays at its comfortable beginning
            parameter.add_(0.2 * torch.randn_like(parameter))
    matrices, vectors = split_weights(trained)
    rounded = {name: torch.from_numpy(matrix.restore()) for name, matrix in matrices.items()}
    trained.load_state_dict(rounded, strict=False)
    return trained, Network(shape, VOCABULARY, matrices, vectors, graph.build(shape))


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine(small()[1])


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("layer_norm", [False, True])
def test_the_engine_computes_what_was_trained(
    cell: Cell, layers: int, directions: int, layer_norm: bool
) -> None:
    trained, network = small(cell, layers, directions, layer_norm)
    logits, features = trained(BatchBuilder(VOCABULARY)(UTTERANCES))
    found = Engine(network).run(UTTERANCES)
    np.testing.assert_allclose(found.logits, logits.numpy(), atol=1e-5)
    np.testing.assert_allclose(found.features, features.numpy(), atol=1e-5)


@pytest.mark.parametrize("layer_norm", [False, True])
def test_the_engine_tags_as_was_trained(layer_norm: bool) -> None:
    trained, network = small(tags=5, layer_norm=layer_norm)
    draw = np.random.default_rng(0)
    told = [draw.random((len(tokens), 3)).astype(np.float32) for tokens in UTTERANCES]
    padded = torch.zeros(len(UTTERANCES), max(map(len, UTTERANCES)), 3)
    for row, features in zip(padded, told, strict=True):
        row[: len(features)] = torch.from_numpy(features)
    logits, _, scores = trained.tag(BatchBuilder(VOCABULARY)(UTTERANCES), padded)
    engine = Engine(network)
    found = engine.run(UTTERANCES, told)
    np.testing.assert_allclose(found.logits, logits.numpy(), atol=1e-5)
    for one, expected, tokens, features in zip(
        found.tags, scores.numpy(), UTTERANCES, told, strict=True
    ):
        np.testing.assert_allclose(one, expected[: len(tokens)], atol=1e-5)
        np.testing.assert_allclose(engine.run([tokens], [features]).tags[0], one, atol=1e-5)


WORDS = st.text("abcdefghijkl", min_size=1, max_size=3) | st.sampled_from(["hello", "order", "日"])


@settings(max_examples=50)
@given(st.lists(st.lists(WORDS, min_size=1, max_size=12), min_size=1, max_size=80))
def test_an_utterance_gets_the_same_logits_alone_and_in_a_crowd(
    engine: Engine, utterances: list[list[str]]
) -> None:
    together = engine.run(utterances).logits
    for row, utterance in zip(together, utterances, strict=True):
        np.testing.assert_allclose(engine.run([utterance]).logits[0], row, atol=1e-5)


def test_more_words_than_are_kept_change_nothing(engine: Engine) -> None:
    before = engine.run(UTTERANCES).logits
    for start in range(0, CACHED_WORDS + 1000, 100):
        engine.run([[f"w{number}" for number in range(start, start + 100)]])
    many = [[f"v{number}", "order"] for number in range(3000)]
    crowd = engine.run([*UTTERANCES, *many]).logits
    np.testing.assert_allclose(crowd[: len(UTTERANCES)], before, atol=1e-5)
    np.testing.assert_allclose(engine.run(UTTERANCES).logits, before, atol=1e-5)


@given(st.integers(0, 5), st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_a_quantized_row_is_off_by_at_most_half_a_step(rows: int, width: int, seed: int) -> None:
    draw = np.random.default_rng(seed)
    matrix = draw.standard_normal((rows, width)).astype(np.float32)
    matrix *= 10.0 ** draw.integers(-6, 6, size=(rows, 1)).astype(np.float32)
    found = quantize(matrix)
    largest = np.abs(matrix).max(axis=1, initial=0)
    error = np.abs(found.restore() - matrix).max(axis=1, initial=0)
    assert (error <= largest / 127 * 0.5001).all()


def test_a_row_of_zeros_stays_zero() -> None:
    assert not quantize(np.zeros((2, 3), np.float32)).restore().any()


def test_serving_imports_neither_torch_nor_onnx() -> None:
    code = (
        "import sys, intent.classifier; sys.exit(len({'torch', 'onnx', 'transformers'} "
        "& sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
