"""How the reader learns: to find the sentence among all of a field's pages, to score it above the
others of the pages that are read, and to score none of them where nothing answers.

Shapes as in `generator.teaching.reader_network`.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from generator.reader_graph import ABSENT
from generator.teaching.exercise import NEAREST, Drill, Exercise, FieldDrills, draw_exercise
from generator.teaching.export import exported_weights
from generator.teaching.lesson import Field, TeachingError
from generator.teaching.optimization import MixedPrecision, learning_rate_share
from generator.teaching.reader_network import ReaderNetwork
from generator.teaching.reader_validation import Judged, figures, judge
from generator.teaching.tokens import PageBatch, Tokens, padded, page_batch
from generator.teaching.training import Figures, saved_state

FOUND_AT_ONCE = 64
CLOSENESS_SCALE = 20
"""What cosines are multiplied with, so that a softmax over them can become sure."""
MATCH_SCALE = 40
"""The same for cosines of single words."""
ALONE_WEIGHT, FINDING_WEIGHT, MATCHING_WEIGHT, POINTING_WEIGHT = 0.15, 0.5, 0.5, 0.3
COMMON = 1.5
"""Nats. Words that are no rarer stand on a page in five, and are not what a sentence has to say."""
LEAST_RARITY = 0.1
"""Nats, of words that stand on every page."""
DIRECTIONS_FROM = 40
"""So many fields' pages show along which directions words differ."""

Nearest = list[list[int]]
"""For each question of a field the other pages, those first that are found first."""


@dataclass(frozen=True, kw_only=True)
class ReaderConfig:
    epochs: float = 3.5
    questions: int = 144
    """In a step, all of one field."""
    pages: int = 3
    """That a question is read beside: its own, and others that are easily taken for it."""
    strangers: int = 8
    """Of the questions of a step: put to another field, or none at all."""
    faq_fields: int = 40
    """In an epoch, drawn anew each time."""
    learning_rate: float = 1.5e-4
    new_multiple: float = 5.0
    """How much faster the weights learn that the base does not have."""
    weight_decay: float = 0.01
    warm_up: int = 100
    least_learning_rate: float = 0.03
    checkpoint_every: int = 60
    seed: int = 0


class ReaderPupil:
    """The network with all that a step needs, and that a checkpoint keeps."""

    def __init__(
        self,
        network: ReaderNetwork,
        tokens: Tokens,
        fields: Sequence[Field],
        *,
        nearest: Mapping[str, Nearest],
        faq: Sequence[Field] = (),
        validation: Sequence[Field] = (),
        config: ReaderConfig,
    ) -> None:
        """`network`: the base. `nearest`: what is easily confused, from `nearest_pages`."""
        torch.manual_seed(config.seed)
        self._draw = random.Random(config.seed)
        self._tokens, self._config, self._validation = tokens, config, validation
        self._nearest = {field.name: nearest[field.name] for field in (*fields, *faq)}
        self._drills = {
            field.name: _drills(field, self._nearest[field.name], self._draw)
            for field in (*fields, *faq)
        }
        self._learnt = [self._drills[field.name] for field in fields]
        self._faq = [field.name for field in faq]
        self._steps_of = {
            field.name: max(1, round(len(field.questions) / config.questions)) for field in fields
        }
        self._queue: list[str] = []
        network.halve()
        self.network = network
        self._optimizer = MixedPrecision(
            network,
            learning_rate=config.learning_rate,
            weight_decay=config.weight_decay,
            new=network.new_parameters(),
            new_multiple=config.new_multiple,
        )
        self._judged: list[Judged] | None = None

    @property
    def steps(self) -> int:
        faq = min(self._config.faq_fields, len(self._faq))
        return int((sum(self._steps_of.values()) + faq) * self._config.epochs)

    @property
    def checkpoint_every(self) -> int:
        return self._config.checkpoint_every

    @property
    def weights(self) -> dict[str, Tensor]:
        """In float32, the mean of the last steps'."""
        weights = {name: one.float() for name, one in self.network.state_dict().items()}
        return {**weights, **self._optimizer.means}

    def learn(self, step: int) -> Figures:
        config = self._config
        if not self._queue:
            self._queue = self._epoch()
        field = self._drills[self._queue.pop()]
        exercise = draw_exercise(
            field,
            self._draw,
            questions=config.questions,
            pages=config.pages,
            strangers=config.strangers,
            elsewhere=self._learnt,
        )
        share = learning_rate_share(
            step, of=self.steps, warm_up=config.warm_up, least=config.least_learning_rate
        )
        self.network.train()
        loss, losses = exercise_loss(self.network, self._tokens, exercise, self._draw)
        self._optimizer.step(loss, share)
        self._judged = None
        return losses

    def averaged(self) -> AbstractContextManager[None]:
        """Meanwhile the network has these weights."""
        return self._optimizer.averaged()

    def judged(self) -> list[Judged]:
        """What the network with these weights makes of the validation fields."""
        if self._judged is None:
            with self.averaged():
                self._judged = judge(self.network, self._tokens, self._validation)
        return self._judged

    def examine(self) -> Figures:
        return figures(self.judged())

    def state(self) -> dict[str, Any]:
        return {
            "network": self.network.state_dict(),
            "optimizer": self._optimizer.state(),
            "draw": self._draw.getstate(),
            "queue": self._queue,
            "nearest": self._nearest,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """With other answer files it goes on, too, with the next epoch."""
        self.network.load_state_dict(state["network"])
        self._optimizer.restore(state["optimizer"])
        self._draw.setstate(state["draw"])
        self._queue = state["queue"] if set(state["queue"]) <= self._drills.keys() else []

    def _epoch(self) -> list[str]:
        """Each field as often as it fills a step with questions."""
        names = [name for name, steps in self._steps_of.items() for _ in range(steps)]
        names += self._draw.sample(self._faq, min(self._config.faq_fields, len(self._faq)))
        self._draw.shuffle(names)
        return names


@torch.inference_mode()
def compare_words(network: ReaderNetwork, tokens: Tokens, fields: Sequence[Field]) -> None:
    """How single words are compared, to begin with: along the principal directions of their states,
    and the rarer the more (Spärck Jones 1972)."""
    network.eval()
    rows: list[Tensor] = []
    for field in fields[:DIRECTIONS_FROM]:
        batch = page_batch([tokens.page(page) for page in field.pages])
        states = network.encode(batch.ids, batch.present).last
        rows.append(functional.normalize(states[batch.present].float(), dim=-1))
    words = torch.cat(rows)
    _, directions = torch.linalg.eigh(words.T @ words)  # the least first
    network.narrow.weight.copy_(directions[:, -network.shape.narrow :].T)

    pages = [set(tokens.page(page).ids) for field in fields for page in field.pages]
    holding = torch.zeros(network.shape.vocabulary)
    for ids in pages:
        holding[list(ids)] += 1
    network.rarity.copy_((len(pages) / (1 + holding)).log().clamp(min=LEAST_RARITY))


def begin_at(
    network: ReaderNetwork, earlier: Mapping[Path, float], *, share_of_base: float = 0.0
) -> None:
    """The network, a base that was taught nothing, gets the mean of the weights that earlier
    trainings ended with, each counted so many times. `earlier`: their checkpoints, or the folders
    of what they exported. `share_of_base`: of what the base has, too, so much stays the base's;
    that keeps some of what it knows of texts unlike those that are learnt from (Wortsman et al.
    2022). Raises TeachingError."""
    untaught = {name: one.float() for name, one in network.state_dict().items()}
    parts = sum(earlier.values())
    mean = {name: torch.zeros_like(one) for name, one in untaught.items()}
    for path, part in earlier.items():
        weights = _earlier_weights(path)
        known = weights.keys() & mean.keys()
        if not known or any(weights[name].shape != mean[name].shape for name in known):
            raise TeachingError(f"{path} is of another network; name a reader's of this base")
        for name in mean:
            mean[name] += weights.get(name, untaught[name]) * (part / parts)
    for name in filter(_is_of_base, mean):
        mean[name].lerp_(untaught[name], share_of_base)
    network.load_state_dict(mean)


def _earlier_weights(path: Path) -> Mapping[str, Tensor]:
    if path.is_dir():
        return exported_weights(path)
    state = saved_state(path)
    if state is None:
        raise TeachingError(f"{path} does not exist; name a checkpoint, or a folder")
    weights: dict[str, Tensor] = state["pupil"].get("optimizer", {}).get("means", {})
    return weights


def _is_of_base(name: str) -> bool:
    return name.startswith(("layers.", "embedding_norm.", "kinds."))


def nearest_pages(
    network: ReaderNetwork,
    tokens: Tokens,
    fields: Sequence[Field],
    *,
    known: Mapping[str, Nearest],
    on_progress: Callable[[int, int], None] = lambda done, of: None,
) -> dict[str, Nearest]:
    """By the names of the fields. `network`: the base, untaught. `known`: from a checkpoint, so
    that a training that goes on need not wait for them again."""
    found: dict[str, Nearest] = {}
    for number, field in enumerate(fields, start=1):
        before = known.get(field.name, [])
        fits = len(before) == len(field.questions)
        found[field.name] = before if fits else _nearest(network, tokens, field)
        on_progress(number, len(fields))
    return found


@torch.inference_mode()
def _nearest(network: ReaderNetwork, tokens: Tokens, field: Field) -> Nearest:
    network.eval()
    told = network.tell(page_batch([tokens.page(page) for page in field.pages]))
    nearest: Nearest = [[]] * len(field.questions)
    ids = [tokens.question(one.text, one.before) for one in field.questions]
    by_length = sorted(range(len(ids)), key=lambda number: len(ids[number]))
    for start in range(0, len(by_length), FOUND_AT_ONCE):
        part = by_length[start : start + FOUND_AT_ONCE]
        asked = network.ask(*padded([ids[number] for number in part]))
        best = network.closenesses(asked, told).amax(-1)  # (Q, P)
        for number, order in zip(part, best.argsort(1, descending=True).tolist(), strict=True):
            own = field.questions[number].page
            nearest[number] = [page for page in order if page != own][:NEAREST]
    return nearest


def _drills(field: Field, nearest: Nearest, draw: random.Random) -> FieldDrills:
    texts = [one.text for one in field.questions if not one.before] or [""]
    drills = [
        Drill(question, [page for page in pages if page < len(field.pages)], draw.choice(texts))
        for question, pages in zip(field.questions, nearest, strict=True)
    ]
    return FieldDrills(field.name, field.pages, tuple(drills))


def exercise_loss(
    network: ReaderNetwork, tokens: Tokens, exercise: Exercise, draw: random.Random
) -> tuple[Tensor, Figures]:
    told = network.tell(page_batch([tokens.page(page, gone) for page, gone in exercise.pages]))
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
    matching = matching_loss(matched.pages[:, : exercise.whole], exercise.drills)
    sentences = matched.sentences[:, : exercise.whole]
    matching = 0.5 * (matching + finding_loss(MATCH_SCALE * sentences, whole, exercise.drills))
    said = answering_tokens(network, tokens, told.batch, exercise)
    pointing = reading_loss(read.tokens, said, questions)
    loss = reading + ALONE_WEIGHT * alone + FINDING_WEIGHT * finding + MATCHING_WEIGHT * matching
    loss = loss + POINTING_WEIGHT * pointing
    losses = {"reading": reading, "finding": finding, "matching": matching, "pointing": pointing}
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


def matching_loss(matched: Tensor, drills: Sequence[Drill]) -> Tensor:
    """Of the answerable questions: the page that answers among all pages of the field.
    matched: (Q, P)."""
    answerable = torch.tensor([bool(drill.question.support) for drill in drills])
    if not answerable.any():
        return 0 * matched.sum()
    pages = torch.tensor([drill.question.page for drill in drills])
    return functional.cross_entropy(MATCH_SCALE * matched[answerable], pages[answerable])


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
