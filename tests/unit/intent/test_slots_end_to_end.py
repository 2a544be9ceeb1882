"""From annotated examples to slots in a prediction, through training, a file and back."""

from dataclasses import replace
from pathlib import Path

import pytest

from intent import artifact
from intent.artifact import to_bytes
from intent.classifier import GRUClassifier
from intent.config import TrainingConfig
from intent.data import TrainingSet, read
from intent.interface import ArtifactError, Slot
from intent.training import Trained, train

CITIES = ["rome", "paris", "oslo", "berlin", "new york", "lima", "cairo", "san diego"]
ITEMS = ["lamp", "jacket", "blue table", "pair of shoes"]
RULES = """
- synonym: NYC
  examples: |
    - new york
    - big apple
- regex: order_number
  examples: |
    - [a-z]{2}\\d{6}
- lookup: item
  examples: |
    - garden chair
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> TrainingSet:
    fly = [
        f'    - fly from [{one}]{{"entity": "city", "role": "from"}} '
        f'to [{other}]{{"entity": "city", "role": "to"}}'
        for one in CITIES
        for other in CITIES
        if one != other
    ]
    buy = [
        f"    - {verb} a [{item}](item){rest}"
        for verb in ("buy", "order", "get")
        for item in ITEMS
        for rest in ("", " with order")
    ]
    path = tmp_path_factory.mktemp("slots") / "nlu.yml"
    lines = ["- intent: fly", "  examples: |", *fly, "- intent: buy", "  examples: |", *buy]
    path.write_text("nlu:\n" + "\n".join(lines) + "\n" + RULES)
    return read(path)


@pytest.fixture(scope="module")
def trained(data: TrainingSet) -> Trained:
    config = TrainingConfig(embedding=32, hidden=24, features=24, epochs=25, learning_rate=0.01)
    *_, last = train(data, config)
    assert isinstance(last, Trained)
    return last


@pytest.fixture(scope="module")
def classifier(trained: Trained) -> GRUClassifier:
    return GRUClassifier.load(to_bytes(trained.artifact))


def brief(slots: tuple[Slot, ...]) -> list[tuple[str, str, str | None, str]]:
    return [(slot.name, slot.value, slot.role, slot.source) for slot in slots]


def test_roles_tell_the_same_slot_apart_and_synonyms_name_its_value(
    classifier: GRUClassifier,
) -> None:
    text = "Fly from  Oslo to New York"
    found = classifier.classify(text)
    assert found.intent == "fly"
    assert brief(found.slots) == [
        ("city", "Oslo", "from", "network"),
        ("city", "NYC", "to", "network"),
    ]
    assert [text[slot.start : slot.end] for slot in found.slots] == ["Oslo", "New York"]
    assert all(0 < slot.confidence <= 1 for slot in found.slots)


def test_a_regex_and_a_lookup_table_find_what_no_example_shows(classifier: GRUClassifier) -> None:
    slots = classifier.classify("get a garden chair with order AB123456").slots
    assert ("item", "garden chair") in [(slot.name, slot.value) for slot in slots]
    assert ("order_number", "AB123456", None, "regex") in brief(slots)


def test_slots_are_the_same_alone_and_in_a_batch(classifier: GRUClassifier) -> None:
    texts = ["buy a lamp", "", "fly from lima to paris", "order a blue table", "🙂 fly to oslo"] * 5
    together = classifier.classify_batch(texts)
    for text, prediction in zip(texts, together, strict=True):
        assert brief(classifier.classify(text).slots) == brief(prediction.slots)


def test_a_file_whose_slots_are_not_the_networks_is_refused(trained: Trained) -> None:
    slots = trained.artifact.slots
    for spoilt in (
        replace(slots, kinds=slots.kinds[1:]),
        replace(slots, rules=type(slots.rules)()),
    ):
        with pytest.raises(ArtifactError, match="do not fit together"):
            artifact.from_bytes(to_bytes(replace(trained.artifact, slots=spoilt)))


def test_rules_alone_find_slots(tmp_path: Path) -> None:
    path = tmp_path / "nlu.yml"
    path.write_text(
        "nlu:\n- intent: greet\n  examples: |\n    - hello\n    - hi there\n"
        "- intent: track\n  examples: |\n    - where is it\n    - track my order\n" + RULES
    )
    config = TrainingConfig(embedding=16, hidden=8, features=8, epochs=2)
    *_, last = train(read(path), config)
    assert isinstance(last, Trained)
    classifier = GRUClassifier.load(to_bytes(last.artifact))
    assert brief(classifier.classify("track xy654321").slots) == [
        ("order_number", "xy654321", None, "regex")
    ]
