"""How good a reader is, and what its probabilities have to be corrected by."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from generator.teaching.lesson import Field, Question
from generator.teaching.reader_network import ReaderNetwork, Told
from generator.teaching.tokens import Tokens, padded, page_batch
from generator.teaching.training import Figures

PAGES_READ = 5
JUDGED_AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class Judged:
    """What a network makes of a question. Places begin at 0."""

    answerable: bool
    page_place: int
    """Of the page that answers, or comes nearest, among all of the field."""
    sentence_place: int | None
    """Of the first sentence that answers, among those that are read."""
    log_odds: float
    """That one of those answers, against none."""


@torch.inference_mode()
def judge(network: ReaderNetwork, tokens: Tokens, fields: Sequence[Field]) -> list[Judged]:
    """As in serving: of each field the pages that are found first are read."""
    network.eval()
    judged: list[Judged] = []
    for field in fields:
        told = network.tell(page_batch([tokens.page(page) for page in field.pages]))
        for start in range(0, len(field.questions), JUDGED_AT_ONCE):
            part = field.questions[start : start + JUDGED_AT_ONCE]
            judged += _judge(network, tokens, told, part)
    return judged


def _judge(
    network: ReaderNetwork, tokens: Tokens, told: Told, questions: Sequence[Question]
) -> list[Judged]:
    asked = network.ask(*padded([tokens.question(one.text, one.before) for one in questions]))
    best = network.closenesses(asked, told).amax(-1)  # (Q, P)
    order = best.argsort(1, descending=True).tolist()
    read = [pages[:PAGES_READ] for pages in order]
    pairs = [(number, page) for number, pages in enumerate(read) for page in pages]
    scores = network.scores(asked, told, pairs).view(len(questions), -1)  # (Q, pages read × S)
    most = told.batch.has.shape[1]
    judged: list[Judged] = []
    for number, question in enumerate(questions):
        ranked = scores[number].argsort(descending=True).tolist()
        sentences = [(read[number][place // most], place % most) for place in ranked]
        right = {(question.page, sentence) for sentence in question.support}
        judged.append(
            Judged(
                answerable=bool(question.support),
                page_place=order[number].index(question.page),
                sentence_place=next((n for n, one in enumerate(sentences) if one in right), None),
                log_odds=scores[number].logsumexp(0).item(),
            )
        )
    return judged


def figures(judged: Sequence[Judged]) -> Figures:
    """Shares of the answerable questions, and the AUROC of which are."""
    answerable = [one for one in judged if one.answerable]
    others = [one.log_odds for one in judged if not one.answerable]
    if not answerable or not others:
        return {}
    places = [one.sentence_place for one in answerable]
    return {
        **{
            f"sentence@{first}": _mean(place is not None and place < first for place in places)
            for first in (1, 2, 3)
        },
        "AUROC": auroc([one.log_odds for one in answerable], others),
        **{
            f"page@{first}": _mean(one.page_place < first for one in answerable)
            for first in (1, 3, 5)
        },
    }


def auroc(higher: Sequence[float], lower: Sequence[float]) -> float:
    """How often one of the first is above one of the second; a tie counts half."""
    ordered = np.sort(lower)
    below = np.searchsorted(ordered, higher, "left") + np.searchsorted(ordered, higher, "right")
    return float(below.mean() / (2 * len(ordered)))


def calibration(judged: Sequence[Judged]) -> tuple[float, float]:
    """Slope and offset of the log-odds, by logistic regression; 1 and 0 where there is nothing to
    learn them from. A question counts as answered where a sentence that answers it was read.

    Targets are smoothed as in Platt (1999), so that a few questions that happen to be told apart
    do not promise certainty."""
    answered = np.array([one.sentence_place is not None for one in judged], dtype=bool)
    if not 0 < answered.sum() < len(answered):
        return 1.0, 0.0
    yes, no = int(answered.sum()), int((~answered).sum())
    targets = np.where(answered, (yes + 1) / (yes + 2), 1 / (no + 2))
    return _logistic_regression(np.array([one.log_odds for one in judged]), targets)


def _logistic_regression(
    inputs: NDArray[np.float64], targets: NDArray[np.float64]
) -> tuple[float, float]:
    values, wanted = torch.from_numpy(inputs), torch.from_numpy(targets)
    weights = torch.tensor([1.0, 0.0], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        logits = weights[0] * values + weights[1]
        value = torch.nn.functional.binary_cross_entropy_with_logits(logits, wanted)
        torch.autograd.backward(value)
        return value

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    slope, offset = weights.tolist()
    return slope, offset


def _mean(those: Iterable[bool]) -> float:
    return float(np.mean(list(those)))
