"""Training learns, stops, repeats itself exactly, and refuses what cannot train."""

from dataclasses import replace

import pytest
import torch

from intent import training
from intent.artifact import to_bytes
from intent.config import FINE_TUNING, TrainingConfig
from intent.data import Example, TrainingSet, data_hash, split, training_set
from intent.encoder import PretrainedEncoder
from intent.fitting import Epoch, Student
from intent.interface import OUT_OF_SCOPE, TrainingDataError
from intent.training import FOLDS, Trained, train


def finish(data: TrainingSet, config: TrainingConfig) -> Trained:
    *_, last = train(data, config)
    assert isinstance(last, Trained)
    return last


def test_training_reports_every_epoch_and_learns(small_training: list[Epoch | Trained]) -> None:
    *epochs, last = small_training
    first, *_, final = [epoch for epoch in epochs if isinstance(epoch, Epoch)]
    numbers = [e.number for e in epochs if isinstance(e, Epoch)]
    assert numbers == sorted(set(numbers))
    assert final.of == 40  # a second round learns from what was held out, too
    assert (first.valid_accuracy is None, final.valid_accuracy is None) == (False, True)
    assert final.train_loss < first.train_loss / 2
    assert final.gradient_norm > 0
    assert isinstance(last, Trained)
    assert last.evaluation is not None
    assert last.evaluation.accuracy > 0.8


def test_the_card_says_what_was_done(trained: Trained, small_data: TrainingSet) -> None:
    card = trained.artifact.card
    assert card["data_hash"] == data_hash(small_data)
    assert card["intents"]["track_order"] == 20
    assert card["out_of_scope_examples"] == 12
    assert card["config"]["epochs"] == 20
    assert card["evaluation"]["basis"] == "held out from the training data"
    assert "created_at" not in card


def test_the_same_data_and_seed_give_the_same_bytes(
    trained: Trained, small_data: TrainingSet, small_config: TrainingConfig
) -> None:
    torch.rand(7)  # wherever the global generator stands
    again = finish(small_data, small_config)
    assert to_bytes(again.artifact) == to_bytes(trained.artifact)


def test_another_seed_gives_another_network(
    trained: Trained, small_data: TrainingSet, small_config: TrainingConfig
) -> None:
    other = finish(small_data, replace(small_config, seed=1, epochs=1))
    assert to_bytes(other.artifact) != to_bytes(trained.artifact)


def test_training_leaves_the_global_generator_as_it_was(
    small_data: TrainingSet, small_config: TrainingConfig
) -> None:
    before = torch.get_rng_state()
    for _ in train(small_data, replace(small_config, epochs=2)):
        assert torch.equal(torch.get_rng_state(), before)


def test_training_stops_early_and_keeps_the_best_epoch(
    small_data: TrainingSet, small_config: TrainingConfig
) -> None:
    kept, apart = split(small_data, held_out=0.3)
    config = replace(small_config, epochs=200, patience_epochs=3)
    *epochs, last = train(kept, config, valid=apart)
    assert len(epochs) < 200
    accuracies = [e.valid_accuracy for e in epochs if isinstance(e, Epoch)]
    assert isinstance(last, Trained)
    assert last.evaluation is not None
    assert last.evaluation.basis == "validation data"
    assert last.evaluation.accuracy == pytest.approx(max(a for a in accuracies if a is not None))


@pytest.mark.parametrize("cell", ["rnn", "lstm"])
def test_other_cells_learn_too(
    small_data: TrainingSet, small_config: TrainingConfig, cell: str
) -> None:
    config = replace(small_config, cell=cell, directions=1, layers=2)  # type: ignore[arg-type]
    trained = finish(small_data, config)
    assert trained.evaluation is not None
    assert trained.evaluation.accuracy > 0.7


def test_two_examples_of_two_intents_are_enough_to_begin(small_config: TrainingConfig) -> None:
    pairs = [("good morning", "greet"), ("hello", "greet"), ("bye", "leave"), ("farewell", "leave")]
    trained = finish(training_set(Example(*pair) for pair in pairs), small_config)
    assert trained.evaluation is None
    assert trained.artifact.card["evaluation"] is None


def many(per_intent: int) -> TrainingSet:
    texts = {
        "track": "where is parcel {}",
        "return": "send back item {}",
        "hours": "open on day {}",
    }
    inside = [
        Example(text.format(n), intent) for intent, text in texts.items() for n in range(per_intent)
    ]
    outside = [Example(f"sing song {n}", OUT_OF_SCOPE) for n in range(per_intent // 2)]
    return training_set(inside + outside)


QUICK = TrainingConfig(embedding=8, hidden=8, features=8, epochs=1)


def test_a_small_set_is_certified_by_networks_that_had_not_seen_the_part_they_judge() -> None:
    data = many(40)
    *epochs, last = train(data, QUICK)
    assert isinstance(last, Trained)
    counted = last.artifact.calibration
    assert counted is not None
    assert (counted.basis, counted.inside, counted.outside) == ("cross_fitted", 120, 20)
    assert len(epochs) == 2 + FOLDS
    assert len(last.artifact.scope.inside.texts) == 120  # the served one knows them all


def test_of_a_large_set_a_part_is_kept_that_the_network_never_sees(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(training, "FEWEST_TO_CERTIFY_APART", 100)
    data = many(40)
    *epochs, last = train(data, QUICK)
    assert isinstance(last, Trained)
    counted = last.artifact.calibration
    assert counted is not None
    assert (counted.basis, counted.inside, counted.outside) == ("held_out", 18, 7)
    assert len(epochs) == 2
    assert len(last.artifact.scope.inside.texts) == 102
    assert last.artifact.card["data_hash"] == data_hash(data)


def test_given_utterances_are_counted_without_those_that_were_trained_on() -> None:
    data = many(15)
    more = training_set(
        [*data.examples[:4], Example("where is my hat", "track"), Example("sing", OUT_OF_SCOPE)]
    )
    *_, last = train(data, QUICK, calibration=more)
    assert isinstance(last, Trained)
    counted = last.artifact.calibration
    assert counted is not None
    assert (counted.basis, counted.inside, counted.outside, counted.seen) == ("given", 1, 1, 4)


def test_given_none_the_network_is_the_same_without_those_that_would_certify_it() -> None:
    data = many(40)
    *_, certified = train(data, QUICK)
    *epochs, last = train(data, QUICK, calibration=TrainingSet(()))
    assert isinstance(certified, Trained)
    assert isinstance(last, Trained)
    assert len(epochs) == 2
    assert last.artifact.calibration is not None
    assert last.artifact.calibration.inside == 0
    same, other = (replace(one.artifact, calibration=None) for one in (last, certified))
    assert to_bytes(same) == to_bytes(other)


def test_a_handful_is_not_trained_on_five_times_for_nothing(trained: Trained) -> None:
    assert trained.artifact.calibration is None


def test_unusable_data_is_refused_with_every_reason() -> None:
    data = training_set([Example("hi", "greet", "a.csv:2"), Example(" ", "leave", "a.csv:3")])
    with pytest.raises(TrainingDataError) as caught:
        next(train(data))
    assert len(caught.value.problems) == 3
    assert all(problem.startswith("a.csv:") for problem in caught.value.problems)


def test_validation_data_of_other_intents_is_refused(small_data: TrainingSet) -> None:
    other = training_set([Example("hi", "greet")])
    with pytest.raises(TrainingDataError, match="validation data"):
        next(train(small_data, valid=other))


def test_small_sets_get_more_epochs_than_large_ones() -> None:
    config = TrainingConfig()
    counts = [config.for_examples(count).epochs for count in (30, 1_000, 15_000)]
    assert counts == sorted(counts, reverse=True)  # type: ignore[type-var]
    assert TrainingConfig(epochs=3).for_examples(30).epochs == 3


@pytest.mark.parametrize(
    ("texts", "longer"),
    [
        (("where is my order number {}", "can i send item {} back"), False),
        (("wo bleibt eigentlich meine bestellung nummer {}", "kann ich ware {} umtauschen"), True),
        (("где же мой заказ номер {}", "можно ли вернуть товар {}"), True),
    ],
)
def test_an_encoder_that_knows_few_of_the_words_is_trained_longer(
    texts: tuple[str, str], longer: bool
) -> None:
    examples = [
        Example(text.format(number), str(intent))
        for intent, text in enumerate(texts)
        for number in range(20)
    ]
    student = Student(
        training_set(examples),
        ["0", "1"],
        replace(FINE_TUNING, fewest_steps=0),
        PretrainedEncoder.load(),
    )
    assert FINE_TUNING.most_epochs_of_strange_words is not None
    usual, more = FINE_TUNING.most_epochs, FINE_TUNING.most_epochs_of_strange_words
    assert student.config.epochs == (more if longer else usual)
