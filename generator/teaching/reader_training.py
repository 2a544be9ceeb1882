"""How the reader learns: step by step, from exercises, measured as it goes.

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

from generator.teaching.exercise import NEAREST, Drill, FieldDrills, draw_exercise
from generator.teaching.export import exported_weights
from generator.teaching.lesson import Field, TeachingError
from generator.teaching.optimization import MixedPrecision, learning_rate_share
from generator.teaching.page_memory import PageMemory
from generator.teaching.reader_losses import exercise_loss, told_pages
from generator.teaching.reader_network import ReaderNetwork
from generator.teaching.reader_validation import Judged, figures, judge
from generator.teaching.tokens import Tokens, padded, page_batch
from generator.teaching.training import Figures, saved_state

FOUND_AT_ONCE = 64
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
    other_pages: int = 96
    """Of other fields, that the question's own is to be found among."""
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
        self._memory = PageMemory()
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
        told = told_pages(self.network, self._tokens, exercise)
        others = self._memory.draw(field.name, config.other_pages, self._draw)
        self._memory.keep(field.name, told, exercise.whole)
        loss, losses = exercise_loss(
            self.network, self._tokens, exercise, told, self._draw, others=others
        )
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
            "memory": self._memory.state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """With other answer files it goes on, too, with the next epoch."""
        self.network.load_state_dict(state["network"])
        self._optimizer.restore(state["optimizer"])
        self._draw.setstate(state["draw"])
        self._memory.restore(state["memory"])
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
