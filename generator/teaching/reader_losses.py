"""What the reader learns: to find the sentence among all of a field's pages, and its page among
those of other fields, to score it above the others of the pages that are read, to score none of
them where nothing answers, and to point at what the answer says.

Shapes as in `generator.teaching.reader_network`.
"""

import random
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from generator.reader_graph import ABSENT
from generator.teaching.exercise import Drill, Exercise
from generator.teaching.page_memory import OtherPages
from generator.teaching.reader_network import ReaderNetwork, Told
from generator.teaching.tokens import PageBatch, Tokens, padded, page_batch
from generator.teaching.training import Figures
from generator.vectors import MATCHED_WEIGHT

CLOSENESS_SCALE = 20
"""What cosines are multiplied with, so that a softmax over them can become sure."""
MATCH_SCALE = 40
"""The same for cosines of single words."""
SEARCH_SCALE = 20
"""The same for both together, as passages are searched for."""
ALONE_WEIGHT, FINDING_WEIGHT, MATCHING_WEIGHT, SEARCHING_WEIGHT = 0.15, 0.5, 0.5, 0.5
POINTING_WEIGHT = 0.3
COMMON = 1.5
"""Nats. Words that are no rarer stand on a page in five, and are not what a sentence has to say."""


def told_pages(network: ReaderNetwork, tokens: Tokens, exercise: Exercise) -> Told:
    return network.tell(page_batch([tokens.page(page, gone) for page, gone in exercise.pages]))


def exercise_loss(
    network: ReaderNetwork,
    tokens: Tokens,
    exercise: Exercise,
    told: Told,
    draw: random.Random,
    *,
    others: OtherPages | None = None,
) -> tuple[Tensor, Figures]:
    asked = network.ask(*padded([tokens.question(*one, draw=draw) for one in exercise.asked]))
    closenesses = network.closenesses(asked, told)[:, : exercise.whole]
    whole = told.batch.has[: exercise.whole]
    finding = finding_loss(CLOSENESS_SCALE * closenesses, whole, exercise.drills)
    read = network.scores(asked, told, [(pair.question, pair.page) for pair in exercise.pairs])
    scores = read.sentences
    support = _marked([pair.support for pair in exercise.pairs], scores.shape[1])
    has = scores > ABSENT / 2
    support &= has
    questions = torch.tensor([pair.question for pair in exercise.pairs])
    reading = reading_loss(scores, support, questions)
    each = functional.binary_cross_entropy_with_logits(scores, support.float(), reduction="none")
    alone = (each * has).sum(1).mean()
    matched = network.matched(asked, told)
    matching = page_loss(MATCH_SCALE * matched.pages[:, : exercise.whole], exercise.drills)
    sentences = matched.sentences[:, : exercise.whole]
    matching = 0.5 * (matching + finding_loss(MATCH_SCALE * sentences, whole, exercise.drills))
    found = closenesses.amax(-1) + MATCHED_WEIGHT * matched.pages[:, : exercise.whole]
    if others is not None:
        found = torch.cat([found, others.found(asked)], 1)
    searching = page_loss(SEARCH_SCALE * found, exercise.drills)
    said = answering_tokens(network, tokens, told.batch, exercise)
    pointing = reading_loss(read.tokens, said, questions)
    loss = reading + ALONE_WEIGHT * alone + FINDING_WEIGHT * finding + MATCHING_WEIGHT * matching
    loss = loss + SEARCHING_WEIGHT * searching + POINTING_WEIGHT * pointing
    losses = {"reading": reading, "finding": finding, "matching": matching}
    losses |= {"searching": searching, "pointing": pointing}
    return loss, {name: one.item() for name, one in losses.items()}


def answering_tokens(
    network: ReaderNetwork, tokens: Tokens, batch: PageBatch, exercise: Exercise
) -> Tensor:
    """(N, L) bool: of the sentences that answer, the tokens that the written answer repeats and
    the question does not hold: its figures, if there are any, or else its rarer words, or else the
    whole sentences."""
    said = torch.zeros(len(exercise.pairs), batch.ids.shape[1], dtype=torch.bool)
    for number, pair in enumerate(exercise.pairs):
        if not pair.support:
            continue
        question = exercise.drills[pair.question].question
        new = set(tokens.ids(question.answer or "")) - set(tokens.ids(question.text))
        page, support = batch.ids[pair.page], torch.tensor(pair.support)
        inside = torch.isin(batch.owner[pair.page], support)
        repeated = inside & torch.isin(page, torch.tensor(list(new), dtype=torch.int64))
        figures = repeated & tokens.figures[page]
        rare = repeated & (network.rarity[page] > COMMON) & tokens.wordlike[page]
        said[number] = next((one for one in (figures, rare) if one.any()), inside)
    return said


def finding_loss(scaled: Tensor, has: Tensor, drills: Sequence[Drill]) -> Tensor:
    """Of the answerable questions: the sentences that answer among all sentences of the field.
    scaled: (Q, P, S); has: (P, S), where there is a sentence."""
    pages, most = has.shape
    scaled = scaled.flatten(1).masked_fill(~has.flatten(), ABSENT)
    numbers = [
        [drill.question.page * most + number for number in drill.question.support]
        for drill in drills
    ]
    # The last sentences of a long page may be cut off.
    right = _marked(numbers, pages * most) & has.flatten()
    missed = scaled.logsumexp(1) - scaled.masked_fill(~right, ABSENT).logsumexp(1)
    answerable = right.any(1)
    return missed[answerable].mean() if answerable.any() else 0 * scaled.sum()


def page_loss(scaled: Tensor, drills: Sequence[Drill]) -> Tensor:
    """Of the answerable questions: the page that answers among all pages, of which those of the
    field are the first. scaled: (Q, P)."""
    answerable = torch.tensor([bool(drill.question.support) for drill in drills])
    if not answerable.any():
        return 0 * scaled.sum()
    pages = torch.tensor([drill.question.page for drill in drills])
    return functional.cross_entropy(scaled[answerable], pages[answerable])


def reading_loss(scores: Tensor, support: Tensor, questions: Tensor) -> Tensor:
    """Over all sentences that a question is read beside, and a score of 0 for none of them.

    scores, support: (N, S) of pairs; questions: (N,), the number of each pair's."""
    count = int(questions.max()) + 1
    largest = torch.zeros(count).scatter_reduce(0, questions, scores.detach().amax(1), "amax")
    powers = (scores - largest[questions][:, None]).exp()
    whole = torch.zeros(count).index_add(0, questions, powers.sum(1)) + (-largest).exp()
    right = torch.zeros(count).index_add(0, questions, (powers * support).sum(1))
    unanswered = torch.ones(count, dtype=torch.bool)
    unanswered[questions[support.any(1)]] = False
    share = torch.where(unanswered, -largest, (right + 1e-9).log())
    return (whole.log() - share).mean()


def _marked(rows: Sequence[Sequence[int]], width: int) -> Tensor:
    """(N, width) bool, true at each row's numbers."""
    marked = torch.zeros(len(rows), width, dtype=torch.bool)
    for number, row in enumerate(rows):
        marked[number, list(row)] = True
    return marked
