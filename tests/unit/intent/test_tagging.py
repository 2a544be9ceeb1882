"""The head that tags words, the chain over its labels, and the search for the best sequence."""

from itertools import pairwise, product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from intent.noise import Noise
from intent.slots import legal_transitions
from intent.tagging import LabelChain, TagHead, TagShape
from intent.viterbi import Decoder

LABELS = 5
SHAPE = TagShape(labels=LABELS, states=6, embedding=4, features=3, token_features=2, width=8)


def random_chain(seed: int, labels: int = LABELS) -> LabelChain:
    generator = torch.Generator().manual_seed(seed)
    chain = LabelChain(labels)
    with torch.no_grad():
        for weight in chain.parameters():
            weight.normal_(0, 2, generator=generator)
    return chain


def legal_sequences(length: int) -> list[tuple[int, ...]]:
    step, first = legal_transitions(LABELS)
    return [
        sequence
        for sequence in product(range(LABELS), repeat=length)
        if first[sequence[0]] and all(step[a, b] for a, b in pairwise(sequence))
    ]


@torch.no_grad()
def score(chain: LabelChain, scores: torch.Tensor, sequence: tuple[int, ...]) -> float:
    total = chain.first[sequence[0]] + chain.last[sequence[-1]]
    total = total + sum(scores[place, label] for place, label in enumerate(sequence))
    return float(total + sum(chain.transitions[a, b] for a, b in pairwise(sequence)))


seeds = st.integers(0, 10_000)


@given(seeds, st.integers(1, 4), st.floats(0.1, 20))
@settings(max_examples=50, deadline=None)
def test_the_loss_is_the_share_of_the_sequence_among_all_legal_ones(
    seed: int, length: int, spread: float
) -> None:
    chain = random_chain(seed)
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(length, LABELS, generator=generator) * spread
    sequences = legal_sequences(length)
    chosen = sequences[seed % len(sequences)]
    totals = torch.tensor([score(chain, scores, one) for one in sequences], dtype=torch.float64)
    expected = totals.logsumexp(0) - score(chain, scores, chosen)
    mask = torch.ones(1, length, dtype=torch.bool)
    found = chain.loss(scores[None], torch.tensor([chosen]), mask) * length
    assert found.item() == pytest.approx(expected.item(), abs=1e-3, rel=1e-3)


@given(seeds, st.integers(1, 4), st.floats(0.1, 20))
@settings(max_examples=100, deadline=None)
def test_the_decoder_finds_the_best_legal_sequence_and_how_sure_its_labels_are(
    seed: int, length: int, spread: float
) -> None:
    chain = random_chain(seed)
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(length, LABELS, generator=generator) * spread
    sequences = legal_sequences(length)
    totals = np.array([score(chain, scores, one) for one in sequences])
    (found,) = Decoder(*chain.arrays()).decode(scores[:, None].numpy(), [length])
    assert totals.max() == pytest.approx(score(chain, scores, tuple(found.labels)), abs=1e-3)
    shares = np.exp(totals - totals.max()) / np.exp(totals - totals.max()).sum()
    marginals = [
        sum(share for share, one in zip(shares, sequences, strict=True) if one[t] == label)
        for t, label in enumerate(found.labels)
    ]
    if spread < 5:  # beyond, the floor under a label's likelihood shows
        assert found.probabilities == pytest.approx(marginals, abs=1e-3)


@given(seeds, st.lists(st.integers(1, 30), min_size=1, max_size=6))
@settings(max_examples=50, deadline=None)
def test_a_batch_is_decoded_as_each_of_its_utterances_alone(seed: int, lengths: list[int]) -> None:
    decoder = Decoder(*random_chain(seed, labels=41).arrays())
    generator = torch.Generator().manual_seed(seed)
    scores = (torch.randn(max(lengths), len(lengths), 41, generator=generator) * 5).numpy()
    for row, (length, found) in enumerate(
        zip(lengths, decoder.decode(scores, lengths), strict=True)
    ):
        (alone,) = decoder.decode(scores[:length, row : row + 1], [length])
        assert found.labels == alone.labels
        assert found.probabilities == pytest.approx(alone.probabilities, abs=1e-6)


@given(seeds, st.integers(100, 128), st.sampled_from([1, 30, 1_000]))
@settings(max_examples=20, deadline=None)
def test_long_utterances_and_high_scores_stay_in_range(
    seed: int, length: int, spread: float
) -> None:
    chain = random_chain(seed, labels=41)
    generator = torch.Generator().manual_seed(seed)
    scores = (torch.randn(length, 41, generator=generator) * spread).numpy()
    step, first, last = chain.arrays()
    best = first + scores[0]
    for row in scores[1:]:
        best = (best[:, None] + step).max(axis=0) + row
    (found,) = Decoder(step, first, last).decode(scores[:, None], [length])
    labels = found.labels
    total = first[labels[0]] + last[labels[-1]] + scores[np.arange(length), labels].sum()
    total += step[labels[:-1], labels[1:]].sum()
    assert total == pytest.approx((best + last).max(), rel=1e-4)
    assert all(0 <= probability <= 1.000001 for probability in found.probabilities)


def inputs(lengths: list[int], seed: int = 0) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    count, longest = len(lengths), max(lengths)
    mask = torch.arange(longest) < torch.tensor(lengths)[:, None]
    widths = (SHAPE.states, SHAPE.embedding, SHAPE.token_features)
    parts = [torch.randn(count, longest, width, generator=generator) for width in widths]
    return *parts, torch.randn(count, SHAPE.features, generator=generator), mask


def test_padding_changes_neither_scores_nor_loss() -> None:
    torch.manual_seed(0)
    head = TagHead(SHAPE)
    states, vectors, rules, features, mask = inputs([3, 6])
    labels = torch.tensor([[0, 1, 2, 9, 9, 9], [3, 4, 0, 1, 1, 0]])[:, :6].clamp_max(4)
    both = head(states, vectors, rules, features, mask)
    alone = head(states[:1, :3], vectors[:1, :3], rules[:1, :3], features[:1], mask[:1, :3])
    assert torch.allclose(both[0, :3], alone[0], atol=1e-5)
    loss = head.chain.loss(both[:1], labels[:1], mask[:1])
    assert loss.item() == pytest.approx(
        head.chain.loss(alone, labels[:1, :3], mask[:1, :3]).item(), abs=1e-5
    )


def test_a_token_hears_of_its_neighbours_and_of_no_others() -> None:
    torch.manual_seed(0)
    head = TagHead(SHAPE)
    states, vectors, rules, features, mask = inputs([7])
    before = head(states, vectors, rules, features, mask)
    vectors[0, 3] += 10
    changed = (head(states, vectors, rules, features, mask) - before).abs().amax(2)[0] > 1e-6
    assert changed.tolist() == [False, False, True, True, True, False, False]


def test_a_head_learns_to_tag_and_its_noise_comes_from_its_own_generator() -> None:
    torch.manual_seed(0)
    head = TagHead(SHAPE)
    states, vectors, rules, features, mask = inputs([5, 4, 3], seed=1)
    labels = torch.tensor([[0, 1, 2, 0, 3], [1, 1, 0, 3, 0], [3, 4, 4, 0, 0]])
    noise = Noise(
        generator=torch.Generator().manual_seed(0),
        word_dropout=0.0,
        embedding_dropout=0.0,
        feature_dropout=0.0,
    )
    state = torch.random.get_rng_state()
    optimizer = torch.optim.Adam(head.parameters(), lr=0.02)
    for _ in range(150):
        loss = head.chain.loss(head(states, vectors, rules, features, mask, noise), labels, mask)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
    assert torch.equal(state, torch.random.get_rng_state())
    decoder = Decoder(*head.chain.arrays())
    with torch.no_grad():
        scores = head(states, vectors, rules, features, mask).numpy()
    for row, length, expected in zip(scores, [5, 4, 3], labels.tolist(), strict=True):
        (found,) = decoder.decode(row[:length, None], [length])
        assert found.labels == expected[:length]


def test_likely_labels_that_make_no_legal_sequence_give_way() -> None:
    scores = np.full((3, 1, LABELS), -100, np.float32)
    scores[:, :, 4] = 100  # goes on with what never began
    (found,) = Decoder(*LabelChain(LABELS).arrays()).decode(scores, [3])
    assert found.labels == [3, 4, 4]
    assert all(0 <= probability <= 1 for probability in found.probabilities)


def test_among_legal_labels_far_below_an_illegal_one_the_better_wins() -> None:
    chain = LabelChain(LABELS)
    with torch.no_grad():
        chain.first[0] = 10
    scores = np.array([[[-20, 0, 100, -20, 100]]], np.float32)
    (found,) = Decoder(*chain.arrays()).decode(scores, [1])
    assert found.labels == [1]
