"""How good a reader is, and what its probabilities have to be corrected by."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from generator.judging import Calibration
from generator.teaching.lesson import Field, Question
from generator.teaching.reader_network import ReaderNetwork, Told
from generator.teaching.tokens import Tokens, padded, page_batch
from generator.teaching.training import Figures
from generator.vectors import MATCHED_WEIGHT

PAGES_READ = 5
UNCALIBRATED = Calibration(
    odds=1.0, closeness=0.0, lead=0.0, length=0.0, matched=0.0, least=0.0, offset=0.0
)
MOST_LOG_ODDS = math.log(1e6)
COSINE_SCALE = 10
"""Cosines differ less than log-odds do; so weighed, all weights are kept small alike."""
DECAY = 0.05
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
    closeness: float
    """Of the closest page to the question, by its closest sentence."""
    lead: float
    """By how much the next page is less close."""
    tokens: int
    """Of the question."""
    matched: float
    """How much of the question stands in the page that holds most of it."""
    least: float
    """The same of the two of its words that do least."""


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
    ids = [tokens.question(one.text, one.before) for one in questions]
    asked = network.ask(*padded(ids))
    best = network.closenesses(asked, told).amax(-1)  # (Q, P)
    matched = network.matched(asked, told)
    found = best + MATCHED_WEIGHT * matched.pages
    order = found.argsort(1, descending=True).tolist()
    read = [pages[:PAGES_READ] for pages in order]
    pairs = [(number, page) for number, pages in enumerate(read) for page in pages]
    scores = network.scores(asked, told, pairs).sentences.view(
        len(questions), -1
    )  # (Q, pages read × S)
    most = told.batch.has.shape[1]
    judged: list[Judged] = []
    for number, question in enumerate(questions):
        ranked = scores[number].argsort(descending=True).tolist()
        sentences = [(read[number][place // most], place % most) for place in ranked]
        right = {(question.page, sentence) for sentence in question.support}
        fullest = max(read[number], key=lambda page: matched.pages[number, page].item())
        closest = sorted((best[number, page].item() for page in read[number]), reverse=True)
        judged.append(
            Judged(
                answerable=bool(question.support),
                page_place=order[number].index(question.page),
                sentence_place=next((n for n, one in enumerate(sentences) if one in right), None),
                log_odds=scores[number].logsumexp(0).item(),
                closeness=closest[0],
                lead=closest[0] - closest[min(1, len(closest) - 1)],
                tokens=len(ids[number]),
                matched=matched.pages[number, fullest].item(),
                least=matched.least[number, fullest].item(),
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


def calibration(judged: Sequence[Judged]) -> Calibration:
    """By logistic regression; UNCALIBRATED where there is nothing to learn it from."""
    answerable = np.array([one.answerable for one in judged], dtype=np.float64)
    if not 0 < answerable.sum() < len(answerable):
        return UNCALIBRATED
    inputs = np.array(
        [
            (
                max(-MOST_LOG_ODDS, min(one.log_odds, MOST_LOG_ODDS)),
                COSINE_SCALE * one.closeness,
                COSINE_SCALE * one.lead,
                math.log(one.tokens),
                COSINE_SCALE * one.matched,
                COSINE_SCALE * one.least,
            )
            for one in judged
        ]
    )
    (odds, closeness, lead, length, matched, least), offset = logistic_regression(
        inputs, answerable
    )
    scaled = (COSINE_SCALE * one for one in (closeness, lead, matched, least))
    closeness, lead, matched, least = scaled
    return Calibration(odds, closeness, lead, length, matched, least, offset)


def logistic_regression(
    inputs: NDArray[np.float64], targets: NDArray[np.float64]
) -> tuple[list[float], float]:
    """Weights of the columns, kept small, and the offset, which is not."""
    values, wanted = torch.from_numpy(inputs), torch.from_numpy(targets)
    weights = torch.zeros(inputs.shape[1], dtype=torch.float64, requires_grad=True)
    offset = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights, offset], max_iter=500, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        logits = values @ weights + offset
        value = functional.binary_cross_entropy_with_logits(logits, wanted)
        value = value + DECAY * weights.square().sum() / len(wanted)
        torch.autograd.backward(value)
        return value

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    return weights.tolist(), offset.item()


def _mean(those: Iterable[bool]) -> float:
    return float(np.mean(list(those)))
