"""What a network is trained for: the loss of a batch, and what is done to the batch before."""

import math
import random
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from intent.config import TrainingConfig
from intent.lesson import Lesson
from intent.network import Batch, BatchBuilder, IntentNetwork
from intent.noise import Noise
from intent.optimization import misspell


class Objective:
    def __init__(
        self,
        network: IntentNetwork,
        build: BatchBuilder,
        lesson: Lesson,
        strangers: Sequence[list[str]],
        config: TrainingConfig,
        draw: random.Random,
    ) -> None:
        self._network, self._build, self._lesson = network, build, lesson
        self._strangers, self._config, self._draw = strangers, config, draw
        self._noise = Noise(
            generator=torch.Generator().manual_seed(config.seed),
            word_dropout=config.word_dropout,
            embedding_dropout=config.embedding_dropout,
            feature_dropout=config.feature_dropout,
        )
        self._anchored = [
            (weight, weight.detach().clone())
            for name, weight in network.encoder.named_parameters()
            if not name.startswith("word_vectors")
        ]

    def __call__(self, chosen: Sequence[int]) -> Tensor:
        """The loss of these utterances of the lesson, with some of no intent among them."""
        lesson, config = self._lesson, self._config
        met = self._draw.sample(
            self._strangers, min(len(self._strangers), (config.batch_size or 0) // 4)
        )
        batch = self._build([self._shown(lesson.tokens[n]) for n in chosen] + met)
        logits, features, tagging = self._read(batch, chosen)
        guesses = None if lesson.guesses is None else lesson.guesses[chosen]
        loss = _loss(logits, lesson.labels[chosen], guesses, config)
        loss = loss + config.slot_weight * tagging
        if config.contrast:
            temperature = config.contrast_temperature
            apart = contrast(features[: len(chosen)], lesson.labels[chosen], temperature)
            loss = loss + config.contrast * apart
        if config.anchor:
            strayed = [(weight - start).square().sum() for weight, start in self._anchored]
            loss = loss + config.anchor * torch.stack(strayed).sum()
        return loss

    def _shown(self, tokens: list[str]) -> list[str]:
        if self._config.typo_share and self._draw.random() < self._config.typo_share:
            return misspell(tokens, self._draw)
        return tokens

    def _read(self, batch: Batch, chosen: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
        """Logits (B, I), features (B, F), and the loss of the tags, 0 where there are none."""
        tagger, tagged = self._network.tagger, self._lesson.tagged
        if tagger is None or tagged is None:
            logits, features = self._network(batch, self._noise)
            return logits, features, logits.new_zeros(())
        size = (len(batch.tokens), batch.tokens.shape[1])
        told, labels, rows = tagged.batch(chosen, size)
        logits, features, scores = self._network.tag(batch, told, self._noise)
        if not len(rows):
            return logits, features, logits.new_zeros(())
        return logits, features, tagger.chain.loss(scores[rows], labels[rows], batch.mask[rows])


def _loss(logits: Tensor, labels: Tensor, guesses: Tensor | None, config: TrainingConfig) -> Tensor:
    """logits: (B, I), whose rows beyond the labels are of out-of-scope utterances: those are
    to favour no intent (outlier exposure, Hendrycks et al. 2019)."""
    known, strange = logits[: len(labels)], logits[len(labels) :]
    loss = known.new_zeros(())
    labelled = labels >= 0
    if bool(labelled.any()):
        smoothing = config.label_smoothing
        loss = functional.cross_entropy(
            known[labelled], labels[labelled], label_smoothing=smoothing
        )
    if guesses is not None:
        heat = config.tutor_temperature
        judged = functional.kl_div(
            (known / heat).log_softmax(1), (guesses / heat).softmax(1), reduction="batchmean"
        )
        loss = (1 - config.tutor_weight) * loss + config.tutor_weight * heat * heat * judged
    if len(strange):
        divergence = -strange.log_softmax(1).mean() - math.log(logits.shape[1])
        loss = loss + config.out_of_scope_weight * divergence
    return loss


def contrast(features: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """How little each utterance resembles those of its intent, among all others of the batch.

    features: (B, F); labels: (B,), below 0 for an utterance that counts only among the others.
    0 where no two utterances share an intent, and at best: that it cannot tell those of one
    intent apart is taken off, so that batches of any mix can be compared."""
    pointing = functional.normalize(features, dim=1)
    itself = torch.eye(len(labels), dtype=torch.bool)
    likeness = (pointing @ pointing.T / temperature).masked_fill(itself, -1e4).log_softmax(1)
    alike = (labels[:, None] == labels) & (labels >= 0) & ~itself  # (B, B)
    partners = alike.sum(1)
    found = partners > 0
    if not bool(found.any()):
        return features.new_zeros(())
    shares = (likeness * alike).sum(1)[found] / partners[found]
    return -(shares + partners[found].log()).mean()
