"""The belief about topics: what moves it, and that it is served as it was taught."""

import gzip
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from intent import artifact
from intent.classifier import GRUClassifier
from intent.dialogues import Dialogue, openings, read_dialogues
from intent.encoder import PretrainedEncoder, follow_up_file, follow_up_to_bytes
from intent.follow_up import FollowUpHead, FollowUpTracker, head_sizes
from intent.follow_up_training import FollowUpNetwork, _Read
from intent.interface import (
    ArtifactError,
    Prediction,
    RankedIntent,
    TrainingDataError,
)
from intent.text import tokenize
from intent.training import Trained

INTENTS = ("hours", "parcel", "returns")
FEATURES = 24


@pytest.fixture(scope="module")
def network() -> FollowUpNetwork:
    """Random, and not near the zeros that it begins with."""
    torch.manual_seed(3)
    made = FollowUpNetwork(FEATURES, dropout=0.5).eval()
    with torch.no_grad():
        made.output.weight.normal_(std=0.3)
    return made


def head(**output_bias: float) -> FollowUpHead:
    """Deaf to everything: the same probability and exponents for every utterance."""
    weights = {name: np.zeros(size, np.float32) for name, size in head_sizes(FEATURES).items()}
    bias = (output_bias.get("goes_on", 0), output_bias.get("sharpening", 0.5), 0.5)
    return FollowUpHead(weights | {"output.bias": np.array(bias, np.float32)})


def said(*shares: float) -> Prediction:
    ranked = sorted(zip(INTENTS, shares, strict=True), key=lambda one: -one[1])
    ranking = tuple(RankedIntent(*one) for one in ranked)
    return Prediction(*ranked[0], ranking, True, 0.7, direction=np.zeros(FEATURES, np.float32))


def topics(*shares: float) -> tuple[RankedIntent, ...]:
    return said(*shares).ranking


def test_it_is_served_as_it_was_taught(network: FollowUpNetwork) -> None:
    tracker = FollowUpTracker(network.head(), INTENTS)
    draw = np.random.default_rng(1)
    features = draw.normal(size=FEATURES).astype(np.float32)
    before, shares = ((0.6, 0.3, 0.1), (0.2, 0.1, 0.7))
    direction = features / np.linalg.norm(features)
    found = tracker.follow(replace(said(*shares), direction=direction, tokens=9), topics(*before))
    read = _Read(
        torch.tensor([shares]),
        torch.tensor(features)[None],
        torch.tensor([0.7]),
        torch.tensor([9.0]),
    )
    with torch.no_grad():
        after, goes_on = network(torch.tensor([before]), read)
    assert found.probability == pytest.approx(goes_on.sigmoid().item(), abs=1e-4)
    named = {one.intent: one.confidence for one in found.topics}
    assert [named[name] for name in INTENTS] == pytest.approx(after[0].tolist(), abs=1e-3)
    assert [one.confidence for one in found.topics] == sorted(named.values(), reverse=True)


def test_what_goes_on_keeps_the_topic_against_a_guess_of_the_classifier() -> None:
    unsure = said(0.2, 0.45, 0.35)
    kept = FollowUpTracker(head(goes_on=4), INTENTS).follow(unsure, topics(0.9, 0.05, 0.05))
    left = FollowUpTracker(head(goes_on=-4), INTENTS).follow(unsure, topics(0.9, 0.05, 0.05))
    assert (kept.topics[0].intent, left.topics[0].intent) == ("hours", "parcel")
    assert kept.probability > 0.9
    assert left.probability < 0.1


def test_no_the_other_one_is_not_what_was_talked_about() -> None:
    """The classifier's favourite is what is being left: the next one is meant."""
    tracker = FollowUpTracker(head(goes_on=-4), INTENTS)
    found = tracker.follow(said(0.5, 0.4, 0.1), topics(0.95, 0.03, 0.02))
    assert found.topics[0].intent == "parcel"


def test_weak_evidence_adds_up_while_a_topic_goes_on() -> None:
    tracker, about = FollowUpTracker(head(goes_on=6, sharpening=1), INTENTS), topics(0.5, 0.4, 0.1)
    for _ in range(3):
        about = tracker.follow(said(0.3, 0.5, 0.2), about).topics
    assert about[0].intent == "parcel"


def test_topics_of_another_version_are_forgotten_and_the_first_message_sets_them() -> None:
    tracker = FollowUpTracker(head(), INTENTS)
    unknown = (RankedIntent("renamed", 0.9),)
    for before in ((), unknown):
        found = tracker.follow(said(0.1, 0.7, 0.2), before)
        assert (found.probability, found.topics[0].intent) == (0.0, "parcel")


def test_a_message_without_words_leaves_the_topics_as_they_are() -> None:
    tracker, about = FollowUpTracker(head(), INTENTS), topics(0.9, 0.05, 0.05)
    found = tracker.follow(replace(said(0.3, 0.4, 0.3), direction=None), about)
    assert (found.probability, found.topics) == (0.0, about)


def test_a_file_carries_the_head_it_was_trained_beside(
    trained: Trained, network: FollowUpNetwork
) -> None:
    known = replace(trained.artifact, follow_up=network.head())
    served = GRUClassifier(artifact.from_bytes(artifact.to_bytes(known)))
    alone = GRUClassifier(trained.artifact)
    text = "where is my order"
    prediction = served.classify(text)
    assert prediction == alone.classify(text)
    assert alone.topic_tracker is None
    assert served.topic_tracker is not None
    (features,) = served.features([text])
    assert prediction.direction == pytest.approx(features / np.linalg.norm(features), abs=1e-5)
    assert prediction.tokens == len(tokenize(text))
    assert served.topic_tracker.follow(prediction, prediction.ranking).topics


def test_a_head_of_another_width_is_refused(trained: Trained) -> None:
    narrow = FollowUpNetwork(FEATURES - 1, dropout=0).head()
    content = artifact.to_bytes(replace(trained.artifact, follow_up=narrow))
    with pytest.raises(ArtifactError, match="follow-up head of another network"):
        artifact.from_bytes(content)


def test_an_encoder_brings_its_own_head_and_no_other(tmp_path: Path) -> None:
    shipped = PretrainedEncoder.load()
    content = shipped.to_bytes()
    path = tmp_path / "encoder.safetensors"
    path.write_bytes(content)
    assert PretrainedEncoder.load(path).follow_up is None
    given = FollowUpNetwork(shipped.shape.features, dropout=0).head()
    beside = follow_up_file(path)
    beside.write_bytes(follow_up_to_bytes(given, content, {}))
    assert PretrainedEncoder.load(path).follow_up is not None
    beside.write_bytes(follow_up_to_bytes(given, b"another encoder", {}))
    assert PretrainedEncoder.load(path).follow_up is None
    beside.write_bytes(b"damaged")
    with pytest.raises(ArtifactError, match=r"follow_up\.safetensors"):
        PretrainedEncoder.load(path)


def test_the_shipped_encoder_has_a_head() -> None:
    assert PretrainedEncoder.load().follow_up is not None


TALK = {
    "id": "1",
    "services": ["Buses_1"],
    "turns": [
        {"speaker": "user", "text": "I need a bus to Rome tomorrow", "intents": ["FindBus"]},
        {"speaker": "assistant", "text": "When?"},
        {"speaker": "user", "text": "at noon, please, if there is", "intents": ["FindBus"]},
        {
            "speaker": "user",
            "text": "then book me a seat on it",
            "intents": ["FindBus", "BuyTicket"],
        },
        {"speaker": "user", "text": "that is all"},
    ],
}


def talks(path: Path, *rows: object) -> list[Dialogue]:
    with gzip.open(path, "wt") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    return read_dialogues(path)


def test_an_utterance_that_brings_up_a_new_intent_is_about_that_one(tmp_path: Path) -> None:
    (talk,) = talks(tmp_path / "talks.jsonl.gz", TALK)
    assert [(one.intents, one.turns_away) for one in talk.utterances] == [
        (("FindBus",), False),
        (("FindBus",), False),
        (("BuyTicket",), True),
        ((), False),
    ]
    found = openings([talk], most=5, seed=0)
    assert {(one.intent, one.text) for one in found} == {
        ("FindBus", "I need a bus to Rome tomorrow"),
        ("BuyTicket", "then book me a seat on it"),
    }


def test_a_line_that_is_no_dialogue_is_named(tmp_path: Path) -> None:
    with pytest.raises(TrainingDataError, match=r"talks\.jsonl\.gz:2: no dialogue"):
        talks(tmp_path / "talks.jsonl.gz", TALK, {"id": "2"})
