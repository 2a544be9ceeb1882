"""The benchmark of the promise: it draws what it says, and skips with a reason."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.promise import Population, Predictions, main
from intent.interface import Promise


@pytest.fixture
def population() -> Population:
    """Nine of ten in scope are right; the more confident, the more often."""
    random = np.random.default_rng(5)

    def rows(count: int, *, known: bool) -> np.ndarray:
        scores = random.normal(2 if known else -3, 1, count)
        wrong = random.random(count) < (0.3 / (1 + np.exp(scores - 1)) if known else 1)
        labels = random.integers(0, 5, count)
        return np.stack([labels, labels + wrong, np.full(count, 0.9), scores], axis=1)

    return Population.of(
        Predictions(
            {
                "valid_inside": rows(600, known=True),
                "valid_outside": rows(100, known=False),
                "test_inside": rows(2_000, known=True),
                "test_outside": rows(500, known=False),
            }
        )
    )


def test_the_certificate_keeps_what_the_naive_rule_breaks(population: Population) -> None:
    certified, naive = population.try_out(Promise(0.05, 0.9, 0.9), 1_000, 40)
    assert (certified.rule, naive.rule) == ("certificate", "naive")
    assert certified.broken <= 0.1
    assert naive.broken >= 0.3
    assert 0.2 < certified.answered < naive.answered
    assert certified.saved_rightly <= certified.saved


def test_without_data_it_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("TWOFOLD_DATA", raising=False)
    assert main([]) == 0
    assert "skipped: set TWOFOLD_DATA" in capsys.readouterr().out
    monkeypatch.setenv("TWOFOLD_DATA", str(tmp_path))
    assert main([]) == 0
    assert "does not exist" in capsys.readouterr().out
