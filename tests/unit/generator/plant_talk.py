"""Conversations of an invented plant shop, and a small network that has learned them by heart."""

import itertools

import pytest

from generator.interface import ChatMessage
from generator.seq2seq.artifact import Seq2Seq
from generator.seq2seq.config import TrainingConfig
from generator.seq2seq.conversations import Conversation, Split

ANSWERS = {
    "how much is a fern?": "a fern is 9 euros",
    "how much is a cactus?": "a cactus is 4 euros",
    "how much is a palm?": "a palm is 30 euros",
    "do ferns like the sun?": "no, ferns like the shade",
    "do palms like the sun?": "yes, palms like the sun",
    "when do you open?": "at nine, every day but monday",
    "can I pay by card?": "yes, by card or in cash – gladly 🌿",
}
SMALL = TrainingConfig(
    vocabulary=600,
    embedding=32,
    hidden=64,
    source_tokens=40,
    reply_tokens=30,
    epochs=22,
    patience_epochs=22,
    batch_size=8,
    learning_rate=1e-2,
    dropout=0.0,
    sampled_share=0.1,
)


def talk(*questions: str) -> Conversation:
    said = itertools.chain.from_iterable(
        (ChatMessage("user", one), ChatMessage("assistant", ANSWERS[one])) for one in questions
    )
    return tuple(said)


def plant_talk() -> Split:
    """Learned and validated on the same: by heart is what is wanted here."""
    single = [talk(one) for one in ANSWERS]
    double = [talk(*pair) for pair in itertools.permutations(ANSWERS, 2)]
    return Split(train=(*single, *double[::4]), valid=tuple(single), test=tuple(double[:3]))


@pytest.fixture(scope="session")
def learned() -> tuple[Seq2Seq, float]:
    """The network as it is served, and the loss it ended with."""
    import torch

    from generator.seq2seq.training import Trained, served, train

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        *_, trained = train(plant_talk(), SMALL)
    finally:
        torch.set_num_threads(threads)
    assert isinstance(trained, Trained)
    return served(trained), min(epoch.valid_loss for epoch in trained.epochs)
