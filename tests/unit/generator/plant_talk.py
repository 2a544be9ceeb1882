"""Conversations of an invented plant shop, and how a small network learns them by heart."""

import itertools

from generator.interface import ChatMessage
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
