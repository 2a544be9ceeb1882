"""The network's shapes and what padding may not do."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from intent.network import BatchBuilder, IntentNetwork
from intent.noise import Noise
from intent.shape import Cell, NetworkShape
from intent.text import Vocabulary

VOCABULARY = Vocabulary(("hello", "order", "parcel"))


def small_network(cell: Cell = "gru", layers: int = 1, directions: int = 2) -> IntentNetwork:
    shape = NetworkShape(
        vocabulary=3,
        intents=4,
        cell=cell,
        embedding=64,
        hidden=6,
        layers=layers,
        directions=directions,
        features=5,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return IntentNetwork(shape).eval()


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("layers", [1, 2])
def test_every_kind_of_network_gives_logits_and_features(
    cell: Cell, directions: int, layers: int
) -> None:
    network = small_network(cell, layers, directions)
    logits, features = network(BatchBuilder(VOCABULARY)([["hello"], ["where", "order", "?"]]))
    assert logits.shape == (2, 4)
    assert features.shape == (2, 5)


@settings(max_examples=30)
@given(st.lists(st.lists(st.sampled_from(["hello", "order", "x", "日"]), min_size=1), min_size=1))
def test_an_utterance_gets_the_same_logits_alone_and_among_longer_ones(
    utterances: list[list[str]],
) -> None:
    network, build = small_network(), BatchBuilder(VOCABULARY)
    with torch.no_grad():
        together, _ = network(build(utterances))
        for row, utterance in zip(together, utterances, strict=True):
            alone, _ = network(build([utterance]))
            torch.testing.assert_close(alone[0], row)


def test_a_typo_of_a_known_word_lies_nearer_to_it_than_another_word_does() -> None:
    network, build = small_network(), BatchBuilder(VOCABULARY)
    with torch.no_grad():
        vectors = network.encoder.word_vectors(build([["parcel", "parcell", "zebra"]]))
    right, typo, other = torch.nn.functional.normalize(vectors, dim=1)
    assert right @ typo > right @ other


def test_word_order_matters() -> None:
    network, build = small_network(), BatchBuilder(VOCABULARY)
    with torch.no_grad():
        logits, _ = network(build([["hello", "order"], ["order", "hello"]]))
    assert not torch.allclose(logits[0], logits[1])


def test_noise_keeps_the_mean_and_leaves_the_global_generator_alone() -> None:
    noise = Noise(
        generator=torch.Generator().manual_seed(0),
        word_dropout=0.1,
        embedding_dropout=0.3,
        feature_dropout=0.5,
    )
    before = torch.get_rng_state()
    mask = noise.mask(1_000, 100, drop=0.3)
    assert torch.equal(torch.get_rng_state(), before)
    assert mask.mean().item() == pytest.approx(1, abs=0.02)
    assert (mask == 0).double().mean().item() == pytest.approx(0.3, abs=0.02)


def test_the_cache_of_words_stays_small() -> None:
    build = BatchBuilder(VOCABULARY, cache_words=2)
    batch = build([["one", "two", "three", "hello", "one"]])
    assert batch.words.tolist() == [0, 0, 0, 1]
    assert batch.tokens.tolist() == [[0, 1, 2, 3, 0]]
