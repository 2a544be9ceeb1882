"""A transformer's help at training time: it judges the examples, and messages nobody labelled."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from intent.teacher import Teacher

STRENGTH = 20.0
"""Inverse of the regularisation, as scikit-learn's C: how far the classifier follows each
example."""
EMBEDDED_AT_ONCE = 512


class Tutor:
    """A linear classifier on a teacher's embeddings, whose doubts the student learns along with
    the labels (distillation, Hinton et al. 2015)."""

    def __init__(
        self,
        teacher: Teacher,
        texts: Sequence[str],
        *,
        on_progress: Callable[[int, int], None] = lambda done, of: None,
    ) -> None:
        self._place = {text: place for place, text in enumerate(dict.fromkeys(texts))}
        distinct = list(self._place)
        parts = []
        for start in range(0, len(distinct), EMBEDDED_AT_ONCE):
            parts.append(teacher.embed(distinct[start : start + EMBEDDED_AT_ONCE]).float())
            on_progress(min(start + EMBEDDED_AT_ONCE, len(distinct)), len(distinct))
        self._embeddings = torch.cat(parts)  # (N, E)

    def judge(self, texts: Sequence[str], labels: Tensor, intents: int) -> Tensor:
        """Logits (N, I) for all the texts, from a classifier that learns from those with a
        label; `labels` (N,) is -1 where there is none."""
        embeddings = self._embeddings[[self._place[text] for text in texts]]
        labelled = labels >= 0
        head = _fit(embeddings[labelled], labels[labelled], intents)
        with torch.no_grad():
            logits: Tensor = head(embeddings)
        return logits


def _fit(embeddings: Tensor, labels: Tensor, intents: int) -> nn.Linear:
    head = nn.Linear(embeddings.shape[1], intents)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    decay = 0.5 / (STRENGTH * len(labels))
    optimizer = torch.optim.LBFGS(head.parameters(), max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = functional.cross_entropy(head(embeddings), labels)
        value = value + decay * head.weight.square().sum()
        torch.autograd.backward(value)
        return value

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    return head
