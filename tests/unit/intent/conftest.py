"""What the tests of the intent engine share: a small assistant, trained once."""

from collections.abc import Iterator

import pytest
import torch

from intent.classifier import GRUClassifier
from intent.config import TrainingConfig
from intent.data import Example, TrainingSet, training_set
from intent.fitting import Epoch
from intent.interface import OUT_OF_SCOPE
from intent.training import Trained, train

TEXTS = {
    "track_order": [
        "where is my {}",
        "has my {} shipped",
        "track the {}",
        "when does my {} arrive",
    ],
    "return_item": ["i want to return my {}", "send the {} back", "refund for the {} please"],
    "opening_hours": ["when are you open {}", "opening hours {}", "do you close early {}"],
    "где_заказ": ["где мой {}", "когда придёт {}", "отследить {}"],
    "退货": ["我想退{}", "怎么退货{}", "请退款{}"],
}
FILLERS = {
    "track_order": ["order", "parcel", "package", "shoes", "jacket"],
    "return_item": ["order", "jacket", "shoes", "lamp", "table"],
    "opening_hours": ["today", "on monday", "tomorrow", "on sunday", "tonight"],
    "где_заказ": ["заказ", "пакет", "посылка", "товар", "стол"],
    "退货": ["衣服", "鞋子", "订单", "桌子", "灯"],
}


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def small_data() -> TrainingSet:
    inside = [
        Example(text.format(filler), intent)
        for intent, texts in TEXTS.items()
        for text in texts
        for filler in FILLERS[intent]
    ]
    outside = [
        Example(f"{verb} me a {noun}", OUT_OF_SCOPE)
        for verb in ("tell", "sing", "write")
        for noun in ("joke", "song", "poem", "story")
    ]
    return training_set(inside + outside)


@pytest.fixture(scope="session")
def small_config() -> TrainingConfig:
    return TrainingConfig(embedding=32, hidden=24, features=24, epochs=20, learning_rate=0.01)


@pytest.fixture(scope="session")
def small_training(small_data: TrainingSet, small_config: TrainingConfig) -> list[Epoch | Trained]:
    return list(train(small_data, small_config))


@pytest.fixture(scope="session")
def trained(small_training: list[Epoch | Trained]) -> Trained:
    last = small_training[-1]
    assert isinstance(last, Trained)
    return last


@pytest.fixture(scope="session")
def classifier(trained: Trained) -> GRUClassifier:
    return GRUClassifier(trained.artifact)
