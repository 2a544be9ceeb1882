"""A teacher's help at training time, with a small teacher that needs no download."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from intent.classifier import GRUClassifier
from intent.config import TrainingConfig
from intent.data import Example, TrainingSet, training_set
from intent.fitting import Help
from intent.text import tokenize
from intent.training import Trained, train
from intent.tutor import Tutor

MEANINGS = {"track": 0, "trace": 0, "locate": 0, "cancel": 1, "annul": 1, "revoke": 1}
THINGS = ["order", "parcel", "lamp", "jacket", "table", "shoes"]
LABELLED = training_set(
    Example(f"{verb} the {thing}", intent)
    for verb, intent in (("track", "where_is_it"), ("cancel", "call_it_off"))
    for thing in THINGS
)
UNLABELLED = [f"{verb} my {thing}" for verb in MEANINGS for thing in THINGS]
SMALL = TrainingConfig(embedding=24, hidden=16, features=16, epochs=25, learning_rate=0.01)


class SynonymTeacher:
    """Knows which verbs mean the same."""

    name = "synonyms"

    def __init__(self) -> None:
        self.asked: list[str] = []

    def embed(self, sentences: Sequence[str]) -> Tensor:
        self.asked += sentences
        rows = torch.full((len(sentences), 3), 0.1)
        for row, sentence in zip(rows, sentences, strict=True):
            for token in tokenize(sentence):
                if token in MEANINGS:
                    row[MEANINGS[token]] += 1
        return torch.nn.functional.normalize(rows, dim=1)


def finish(data: TrainingSet, help: Help | None) -> GRUClassifier:
    *_, last = train(data, SMALL, help=help)
    assert isinstance(last, Trained)
    return GRUClassifier(last.artifact)


def test_what_the_teacher_says_of_unlabelled_messages_is_learnt() -> None:
    texts = [example.text for example in LABELLED.examples] + UNLABELLED
    helped = finish(LABELLED, Help(Tutor(SynonymTeacher(), texts), UNLABELLED))
    for verb, intent in (("locate", "where_is_it"), ("revoke", "call_it_off")):
        predictions = helped.classify_batch([f"{verb} your {thing}" for thing in THINGS])
        assert [one.intent for one in predictions] == [intent] * len(THINGS)


def test_the_same_help_gives_the_same_network() -> None:
    texts = [example.text for example in LABELLED.examples]
    helps = [Help(Tutor(SynonymTeacher(), texts)) for _ in range(2)]
    first, second = (finish(LABELLED, help).classify("track it") for help in helps)
    assert first == second


def test_a_tutor_learns_from_labels_and_judges_the_rest() -> None:
    teacher, told = SynonymTeacher(), list[tuple[int, int]]()
    texts = ["track it", "cancel it", "trace it", "annul it", "track it"]
    tutor = Tutor(teacher, texts, on_progress=lambda done, of: told.append((done, of)))
    judged = tutor.judge(texts, torch.tensor([0, 1, -1, -1, 0]), 2)
    assert judged.argmax(1).tolist() == [0, 1, 0, 1, 0]
    assert teacher.asked == list(dict.fromkeys(texts))
    assert told == [(4, 4)]


def test_a_text_that_the_tutor_never_saw_is_a_defect_of_ours() -> None:
    tutor = Tutor(SynonymTeacher(), ["track it"])
    with pytest.raises(KeyError):
        tutor.judge(["cancel it"], torch.tensor([0]), 1)
