"""The benchmark of the safe default: it counts as it says, and skips with a reason."""

import numpy as np
import pytest

from benchmarks.safe_default import Asked, main, table

SURE, TORN, STRANGE = (0.95, 0.99, 1), (0.6, 0.99, 1), (0.99, 0.2, 0)


def rows(*found: tuple[int, tuple[float, float, int]]) -> np.ndarray:
    return np.array([(right, *rest) for right, rest in found], float)


ASKED = Asked(
    inside=rows((1, SURE), (1, SURE), (0, SURE), (0, TORN)),
    outside=rows((0, SURE), (0, STRANGE)),
    trained=rows((1, SURE), (0, SURE)),
)


def test_wrong_are_wrong_intents_and_every_answer_to_a_stranger() -> None:
    ninety, sixty, thirty, answered, trained = ASKED.under(0.9, 0.97)
    assert (answered, trained) == (0.75, 0.5)
    assert ninety == pytest.approx((0.9 * 0.25 + 0.1 * 0.5) / (0.9 * 0.75 + 0.1 * 0.5))
    assert ninety < sixty < thirty
    assert ASKED.under(0.5, 0.97)[3] == 1.0
    assert ASKED.under(0.999, 0.0)[:4] == (0, 0, 0, 0)


def test_several_networks_are_shown_with_the_worst() -> None:
    assert "at worst" in str(next(iter(table([ASKED, ASKED]).columns[2].cells)))


def test_without_data_it_is_skipped(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("TWOFOLD_DATA", raising=False)
    assert main([]) == 0
    assert "skipped" in capsys.readouterr().out
