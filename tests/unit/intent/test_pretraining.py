"""Distilling a sentence encoder, with a small teacher that needs no download."""

import gzip
import json
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from intent.config import FINE_TUNING
from intent.data import TrainingSet
from intent.encoder import PretrainedEncoder
from intent.fitting import Epoch
from intent.interface import ArtifactError, TrainingDataError
from intent.network import BatchBuilder, Encoder
from intent.optimization import misspell
from intent.pretraining import PretrainingConfig, PretrainingEpoch, pretrain
from intent.teacher import SHARD_SENTENCES, embed_corpus, read_corpus
from intent.text import tokenize
from intent.training import Trained, train

SUBJECTS = ["order", "parcel", "refund", "garden", "weather", "music", "kitchen", "engine"]
VERBS = ["track", "cancel", "paint", "repair", "describe", "forget", "borrow", "enjoy"]
SENTENCES = [
    f"{verb} the {subject} {number} times"
    for verb in VERBS
    for subject in SUBJECTS
    for number in range(100)
]
SMALL = PretrainingConfig(embedding=16, hidden=16, epochs=3, batch_size=64, learning_rate=0.02)


class WordTeacher:
    """Places a sentence at the mean of its words' random directions."""

    name = "words"

    def __init__(self) -> None:
        self.asked = 0

    def embed(self, sentences: Sequence[str]) -> Tensor:
        self.asked += len(sentences)
        rows = [
            torch.stack([_direction(word) for word in tokenize(one) if word.isalpha()]).sum(0)
            for one in sentences
        ]
        return torch.nn.functional.normalize(torch.stack(rows), dim=1)


def _direction(word: str) -> Tensor:
    return torch.randn(12, generator=torch.Generator().manual_seed(sum(word.encode())))


@pytest.fixture(scope="module")
def targets() -> Tensor:
    return WordTeacher().embed(SENTENCES)


@pytest.fixture(scope="module")
def steps(targets: Tensor) -> list[PretrainingEpoch | PretrainedEncoder]:
    return list(pretrain(SENTENCES, targets, SMALL))


@pytest.fixture(scope="module")
def encoder(steps: list[PretrainingEpoch | PretrainedEncoder]) -> PretrainedEncoder:
    last = steps[-1]
    assert isinstance(last, PretrainedEncoder)
    return last


def test_the_student_learns_to_place_sentences_as_its_teacher(
    steps: list[PretrainingEpoch | PretrainedEncoder],
) -> None:
    epochs = [step for step in steps if isinstance(step, PretrainingEpoch)]
    assert [epoch.number for epoch in epochs] == [1, 2, 3]
    assert epochs[-1].valid_cosine > 0.95
    assert epochs[-1].train_loss < epochs[0].train_loss


def test_an_interrupted_run_ends_as_one_that_was_not(
    targets: Tensor, encoder: PretrainedEncoder, tmp_path: Path
) -> None:
    checkpoint = tmp_path / "checkpoint.pt"
    interrupted = pretrain(SENTENCES, targets, SMALL, checkpoint=checkpoint)
    next(interrupted)
    next(interrupted)  # asking for the second epoch stores the first
    interrupted.close()
    *epochs, resumed = pretrain(SENTENCES, targets, SMALL, checkpoint=checkpoint)
    assert [epoch.number for epoch in epochs] == [2, 3]
    assert isinstance(resumed, PretrainedEncoder)
    assert resumed.to_bytes() == encoder.to_bytes()


def test_an_encoder_comes_back_from_its_file(encoder: PretrainedEncoder, tmp_path: Path) -> None:
    path = tmp_path / "encoder.safetensors"
    path.write_bytes(encoder.to_bytes())
    again = PretrainedEncoder.load(path)
    assert again.to_bytes() == encoder.to_bytes()
    damaged = bytearray(encoder.to_bytes())
    damaged[-5] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(ArtifactError, match="damaged"):
        PretrainedEncoder.load(path)
    with pytest.raises(ArtifactError, match="no pre-trained encoder"):
        PretrainedEncoder.load(tmp_path / "missing")


def test_the_teacher_is_asked_once_for_each_shard(tmp_path: Path) -> None:
    sentences = [f"track order {number}" for number in range(SHARD_SENTENCES + 5)]
    teacher, told = WordTeacher(), list[tuple[int, int]]()
    first = embed_corpus(
        teacher, sentences, tmp_path, on_shard=lambda done, of: told.append((done, of))
    )
    assert told == [(SHARD_SENTENCES, len(sentences)), (len(sentences), len(sentences))]
    assert torch.equal(embed_corpus(teacher, sentences, tmp_path), first)
    assert teacher.asked == len(sentences)


def test_fine_tuning_begins_where_the_encoder_is(
    small_data: TrainingSet, encoder: PretrainedEncoder
) -> None:
    *epochs, trained = train(small_data, replace(FINE_TUNING, epochs=8), encoder=encoder)
    assert isinstance(trained, Trained)
    assert set(encoder.vocabulary.words) < set(trained.artifact.network.vocabulary.words)
    assert trained.artifact.network.shape.hidden == encoder.shape.hidden
    first = next(epoch for epoch in epochs if isinstance(epoch, Epoch))
    assert first.valid_accuracy is not None
    assert first.valid_accuracy > 0.5  # prototypes of five intents, before anything was learnt


def test_a_misspelt_word_stays_near_the_right_one(encoder: PretrainedEncoder) -> None:
    network = Encoder(encoder.shape)
    network.load_state_dict(encoder.weights())
    build = BatchBuilder(encoder.vocabulary)
    right, wrong, other = network(
        build(
            [tokenize(text) for text in ("repair the kitchen", "repair the kichen", "enjoy music")]
        )
    )
    cosine = torch.nn.functional.cosine_similarity
    assert cosine(right, wrong, dim=0) > cosine(right, other, dim=0)


@given(st.lists(st.text("abcdefgh", min_size=1, max_size=8), min_size=1), st.integers())
def test_misspelling_changes_at_most_one_word(tokens: list[str], seed: int) -> None:
    shown = misspell(tokens, random.Random(seed))
    assert len(shown) == len(tokens)
    changed = [(one, other) for one, other in zip(tokens, shown, strict=True) if one != other]
    assert len(changed) <= 1
    for one, other in changed:
        assert len(one) >= 4
        assert abs(len(one) - len(other)) <= 1


def test_a_corpus_is_read_in_order_and_each_sentence_once(tmp_path: Path) -> None:
    plain, packed = tmp_path / "one.txt", tmp_path / "two.jsonl.gz"
    plain.write_text("".join(f"sentence {number}\n" for number in range(5000)))
    with gzip.open(packed, "wt") as file:
        file.write(json.dumps({"text": "sentence 7"}) + "\n")
        file.write(json.dumps({"text": "a new one"}) + "\n")
    sentences = read_corpus([plain, packed])
    assert (len(sentences), sentences[0], sentences[-1]) == (5001, "sentence 0", "a new one")
    packed.write_bytes(gzip.compress(b'{"text": "fine"}\n{"no": "text"}\n'))
    with pytest.raises(TrainingDataError, match=r"two\.jsonl\.gz:2"):
        read_corpus([packed])
    with pytest.raises(TrainingDataError, match="too few"):
        read_corpus([_with(tmp_path / "few.txt", "one\n")])


def _with(path: Path, text: str) -> Path:
    path.write_text(text)
    return path
