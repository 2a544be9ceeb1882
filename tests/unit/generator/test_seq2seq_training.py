"""What the network learns, and how: tiny networks on invented conversations."""

import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from generator.interface import ChatMessage
from generator.seq2seq.artifact import Seq2Seq
from generator.seq2seq.config import NetworkShape, sampling_decay, teacher_forcing_share
from generator.seq2seq.conversations import ConversationError
from generator.seq2seq.engine import Engine, weight_sizes
from generator.seq2seq.network import Seq2SeqNetwork
from generator.seq2seq.tokens import ASSISTANT, BEGIN, END, PAD, SPECIAL, USER, Tokens, words
from generator.seq2seq.training import (
    Epoch,
    Pair,
    Progress,
    Sampling,
    Trained,
    mean_loss,
    padded,
    pairs,
    reply_losses,
    train,
)

from .plant_talk import ANSWERS, SMALL, plant_talk

SHAPE = NetworkShape(vocabulary=30, embedding=8, hidden=12, source_tokens=20, reply_tokens=10)
PAIRS = [
    Pair([USER, 9, 8, 7], [10, 11, END]),
    Pair([USER, 9], [12, END]),
    Pair([USER, 20, 21, 22, 23, 24, 25], [13, 14, 15, 16, END]),
]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def network() -> Seq2SeqNetwork:
    with torch.random.fork_rng():
        torch.manual_seed(4)
        return Seq2SeqNetwork(SHAPE)


def test_a_small_network_learns_its_conversations_by_heart(learned: tuple[Seq2Seq, float]) -> None:
    network, loss = learned
    assert loss < 0.05
    for question, answer in ANSWERS.items():
        for beam_width in (1, 4):
            reply = network.read([ChatMessage("user", question)])
            ids = network.say(reply, most_tokens=99, beam_width=beam_width)
            assert network.tokens.decode(list(ids)) == answer


def test_what_stands_beside_a_reply_in_its_batch_changes_nothing(network: Seq2SeqNetwork) -> None:
    alone = torch.cat([reply_losses(network, [pair]) for pair in PAIRS])
    assert torch.allclose(reply_losses(network, PAIRS), alone, atol=1e-5)
    assert mean_loss(network, PAIRS, 3) == pytest.approx(mean_loss(network, PAIRS, 1), abs=1e-5)


def test_attention_is_shared_out_among_the_words_and_padding_gets_none(
    network: Seq2SeqNetwork,
) -> None:
    source = padded([pair.source for pair in PAIRS])
    memory, state = network.read(source)
    for token in (BEGIN, 11, 12):
        vectors = network.embedding(torch.full((len(PAIRS),), token))
        state, weights = network.step(vectors, state, memory)
        assert torch.allclose(weights.sum(1), torch.ones(len(PAIRS)))
        assert (weights[source == PAD] == 0).all()
        assert (weights[source != PAD] > 0).all()


def test_numpy_says_what_torch_would(network: Seq2SeqNetwork) -> None:
    weights = {name: one.numpy() for name, one in network.state_dict().items()}
    assert {name: one.shape for name, one in weights.items()} == weight_sizes(SHAPE)
    reply = Engine(SHAPE, weights).read(PAIRS[2].source)
    memory, state = network.read(torch.tensor([PAIRS[2].source]))
    for token in (BEGIN, 13, 14):
        chances = reply.step([token], [0])
        state, attention = network.step(network.embedding(torch.tensor([token])), state, memory)
        logits = network.logits(state.attended)
        logits[:, [PAD, BEGIN, USER, ASSISTANT]] = float("-inf")
        np.testing.assert_allclose(chances, logits.log_softmax(1).detach().numpy(), atol=1e-5)
        np.testing.assert_allclose(reply.attention, attention.detach().numpy(), atol=1e-5)


def test_hypotheses_side_by_side_are_as_good_as_alone(network: Seq2SeqNetwork) -> None:
    engine = Engine(SHAPE, {name: one.numpy() for name, one in network.state_dict().items()})

    def alone(*said: int) -> np.ndarray:
        reply = engine.read(PAIRS[0].source)
        return [reply.step([token], [0]) for token in (BEGIN, *said)][-1][0]

    reply = engine.read(PAIRS[0].source)
    reply.step([BEGIN], [0])
    reply.step([9, 10, 11], [0, 0, 0])
    together = reply.step([12, 13], [2, 0])
    np.testing.assert_allclose(together, [alone(11, 12), alone(9, 13)], atol=1e-5)


@given(steps=st.integers(20, 100_000), sampled=st.floats(0.01, 0.9))
def test_the_share_of_a_persons_words_only_falls_and_ends_where_it_should(
    steps: int, sampled: float
) -> None:
    decay = sampling_decay(steps, sampled)
    some = sorted({*range(0, steps, max(1, steps // 50)), steps})
    shares = [teacher_forcing_share(step, decay) for step in some]
    assert all(0 <= after <= before <= 1 for before, after in itertools.pairwise(shares))
    assert shares[0] > shares[-1]
    assert shares[-1] == pytest.approx(1 - sampled, abs=0.01)


def test_without_sampling_every_word_is_a_persons() -> None:
    assert teacher_forcing_share(10**9, sampling_decay(100, 0.0)) == 1


def test_sampling_replaces_as_many_words_as_it_should_and_never_padding(
    network: Seq2SeqNetwork,
) -> None:
    many = PAIRS * 200
    source = padded([pair.source for pair in many])
    before = padded([[BEGIN, *pair.reply[:-1]] for pair in many])
    memory, state = network.read(source)
    places = (before != PAD) & (torch.arange(before.shape[1]) > 0)
    changed = []
    for forced in (1.0, 0.6, 0.0):
        sampling = Sampling(torch.Generator().manual_seed(1), forced)
        said = sampling(before, state, memory, network)
        assert (said[~places] == before[~places]).all()
        changed.append((said != before)[places].float().mean().item())
    # A word that is drawn may be a person's after all, so a little less than 0.4.
    assert changed[0] == 0
    assert 0.3 < changed[1] < 0.42
    assert changed[2] > 0.85


TINY = replace(SMALL, vocabulary=280, embedding=8, hidden=8, epochs=3, dropout=0.1)


def weights_of(trained: Trained) -> dict[str, torch.Tensor]:
    return trained.network.state_dict()


def finished(steps: Iterator[Progress | Epoch | Trained]) -> Trained:
    *_, trained = steps
    assert isinstance(trained, Trained)
    return trained


def test_an_interrupted_training_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    whole = finished(train(plant_talk(), TINY))
    checkpoint = tmp_path / "checkpoint.pt"
    epochs = 0
    for step in train(plant_talk(), TINY, checkpoint=checkpoint):
        epochs += isinstance(step, Epoch)
        if epochs == 2:  # in the middle of the second one's bookkeeping: the first is kept
            break
    resumed = finished(train(plant_talk(), TINY, checkpoint=checkpoint))
    assert [epoch.number for epoch in resumed.epochs] == [1, 2, 3]
    for name, weight in weights_of(whole).items():
        assert torch.equal(weight, weights_of(resumed)[name]), name
    losses = [[epoch.valid_loss for epoch in one.epochs] for one in (whole, resumed)]
    assert losses[0] == losses[1]


def test_the_seed_decides_and_torchs_own_is_left_alone() -> None:
    state = torch.random.get_rng_state()
    first, again, other = (
        weights_of(finished(train(plant_talk(), replace(TINY, epochs=1, seed=seed))))
        for seed in (1, 1, 2)
    )
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["bridge.weight"], other["bridge.weight"])
    assert torch.equal(state, torch.random.get_rng_state())


def test_a_checkpoint_of_another_training_or_a_damaged_one_is_refused(tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint.pt"
    finished(train(plant_talk(), replace(TINY, epochs=1), checkpoint=checkpoint))
    with pytest.raises(ConversationError, match="other conversations or settings"):
        finished(train(plant_talk(), replace(TINY, epochs=2), checkpoint=checkpoint))
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    with pytest.raises(ConversationError, match="is damaged"):
        finished(train(plant_talk(), replace(TINY, epochs=1), checkpoint=checkpoint))


def test_training_stops_when_it_gets_no_better_and_keeps_the_best() -> None:
    hopeless = replace(TINY, epochs=40, patience_epochs=1, learning_rate=0.3)
    trained = finished(train(plant_talk(), hopeless))
    losses = [epoch.valid_loss for epoch in trained.epochs]
    best = losses.index(min(losses))
    assert len(losses) == best + 1 + hopeless.patience_epochs + 1 < 40
    check = pairs(plant_talk().valid, trained.tokens, hopeless)
    assert mean_loss(trained.network, check) == pytest.approx(losses[best])


TOKENS = Tokens.learn(["the parcel arrives on monday"], size=300)


@given(text=st.text())
def test_nothing_is_unrepresentable(text: str) -> None:
    assert TOKENS.decode(TOKENS.encode(text)) == text.encode("utf-8", "replace").decode()


def test_no_text_becomes_a_control_token() -> None:
    typed = "<user> <assistant> </s> <pad> [PAD] <|endoftext|> \0"
    assert min(TOKENS.encode(typed)) >= SPECIAL
    assert TOKENS.decode(TOKENS.encode(typed)) == typed


def test_of_a_long_conversation_the_end_is_read() -> None:
    talk = [
        ChatMessage("user", "x" * 50),
        ChatMessage("assistant", "yes"),
        ChatMessage("user", "b"),
    ]
    assert TOKENS.context(talk[1:], most=99) == [
        ASSISTANT,
        *TOKENS.encode("yes"),
        USER,
        *TOKENS.encode("b"),
    ]
    assert TOKENS.context(talk, most=4) == TOKENS.context(talk[1:], most=99)[-4:]
    assert TOKENS.context([ChatMessage("system", "be kind")], most=9) == []
    assert TOKENS.reply("c" * 50, most=5)[-1] != END


def test_tokens_that_make_one_word_are_shown_as_one() -> None:
    ids = [USER, *TOKENS.encode("fern 🌿"), END]
    found = words(TOKENS, ids)
    assert [word for word, _ in found] == ["user:", "fern", "🌿", "■"]
    assert [place for _, places in found for place in places] == list(range(len(ids)))
