"""What the form of a question gives away."""

import numpy as np

from benchmarks.answer_forms import asked, features, given_away
from generator.teaching.reader_validation import logistic_regression


def test_a_habit_of_the_authors_is_seen() -> None:
    texts = ["can i bring a dog", "how much is a dog"] * 50
    answered = np.array([False, True] * 50)
    weights, _ = logistic_regression(features(texts), answered.astype(np.float64))
    assert given_away(weights, (texts, answered)) == 1.0
    subjects = ["how much is a dog", "how much is a cat"] * 50
    assert given_away(weights, (subjects, answered)) == 0.5


def test_the_questions_to_learn_from_give_little_away_by_their_form() -> None:
    texts, answered = asked("train")
    weights, _ = logistic_regression(features(texts), answered.astype(np.float64))
    assert given_away(weights, (texts, answered)) < 0.75
