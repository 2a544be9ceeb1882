"""Does an utterance go on with the last topic, and what is it about then? Imports no torch.

The topics of a conversation are a belief, a share for each intent, and every utterance moves it:
where it goes on, the classifier's confidences are weak evidence and sharpen the belief a little;
where it does not, they choose among what was not talked about. A small head mixes both. It looks
at the features of the utterance (how people say "and tomorrow?") and at how well confidences and
belief agree, and says how likely it is that the topic goes on, and how much the confidences
count in either case. It knows no intent by name, so it works for those of any operator. How it
learns: `intent.follow_up_training`.

Shapes: F features, H hidden width.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import mul
from typing import Self

import numpy as np
from numpy.typing import NDArray

from intent.interface import Continuation, Prediction, RankedIntent

Array = NDArray[np.float32]

HIDDEN = 32
SIGNALS = 8
OUTPUTS = 3
REMEMBERED = 3
"""Topics that are told one by one; the others share the rest."""
FEATURE_SCALE = 8.0
LEAST_REST = 1e-3
LEAST_EVIDENCE = 0.01
LEAST_SCOPE = -9.0
"""A rule that says out of scope puts the scope score far below."""


@dataclass(frozen=True)
class FollowUpHead:
    """Its weights, by the names of `intent.follow_up_training.FollowUpNetwork`."""

    weights: Mapping[str, Array]

    def __post_init__(self) -> None:
        """Raises ValueError for weights of other sizes."""
        sizes = head_sizes(self.features)
        if set(sizes) != set(self.weights):
            raise ValueError("a follow-up head with other parts")
        for name, size in sizes.items():
            weight = self.weights[name]
            if weight.shape != size or weight.dtype != np.float32:
                raise ValueError(f"{name} of the follow-up head has another size or type")
            if not bool(np.isfinite(weight).all()):
                raise ValueError(f"{name} of the follow-up head is not finite")

    @property
    def features(self) -> int:
        """Width of the classifier's features that it reads."""
        words = self.weights.get("words.weight")
        return int(words.shape[-1]) if words is not None and words.ndim else 0


def head_sizes(features: int) -> dict[str, tuple[int, ...]]:
    return {
        "words.weight": (HIDDEN, features),
        "words.bias": (HIDDEN,),
        "signals.weight": (HIDDEN, SIGNALS),
        "output.weight": (OUTPUTS, HIDDEN),
        "output.bias": (OUTPUTS,),
    }


class FollowUpTracker:
    """The head at work, among the intents of one classifier. Plain floats rather than arrays where
    there are a dozen of them: it is a part of every message's cost."""

    def __init__(self, head: FollowUpHead, intents: Sequence[str]) -> None:
        weights = head.weights
        self._intents = frozenset(intents)
        self._words = np.ascontiguousarray(FEATURE_SCALE * weights["words.weight"].T)  # (F, H)
        self._words_bias = weights["words.bias"]
        self._scope, self._length = weights["signals.weight"].T[-2:].copy()
        self._signals = weights["signals.weight"][:, :-2].copy()
        self._output, self._bias = weights["output.weight"], weights["output.bias"]

    @classmethod
    def of(cls, head: FollowUpHead | None, intents: Sequence[str]) -> Self | None:
        return cls(head, intents) if head is not None else None

    def cue(self, features: Array, scope_score: float, length: int) -> tuple[float, ...]:
        """What the words alone say (H): all that can be worked out before the conversation is
        known. `scope_score`: above the threshold of scope; `length` in tokens."""
        hidden = features @ self._words
        hidden *= 1 / max(1e-6, math.sqrt(features @ features))
        hidden += self._words_bias
        hidden += max(LEAST_SCOPE, scope_score) / 3 * self._scope
        hidden += math.log1p(length) * self._length
        return tuple(hidden.tolist())

    def follow(self, prediction: Prediction, topics: Sequence[RankedIntent]) -> Continuation:
        if not prediction.cue:  # no words
            return Continuation(0.0, tuple(topics))
        # A new model version may not know them.
        before = {one.intent: one.confidence for one in topics if one.intent in self._intents}
        if not before:
            return Continuation(0.0, prediction.ranking[:REMEMBERED])
        said = {one.intent: one.confidence for one in prediction.ranking}
        unsaid, untold = self._rest(said), self._rest(before)  # of each intent not named there
        named = list(before | said)
        belief = [before.get(name, untold) for name in named]
        confidence = [said.get(name, unsaid) for name in named]
        others = len(self._intents) - len(named)
        elsewhere = [(1 - b) * c for b, c in zip(belief, confidence, strict=True)]
        agreeing = sum(map(mul, belief, confidence)) + others * untold * unsaid

        most = belief.index(max(belief))
        signals = (
            _log_odds(agreeing),
            _log_odds(prediction.confidence),
            _log_odds(confidence[most]),
            _log_odds(max(elsewhere)),
            float(named[most] == prediction.intent),
            _log_odds(belief[most]),
        )
        hidden = self._signals @ np.array(signals, np.float32)
        hidden += prediction.cue
        np.maximum(hidden, 0, out=hidden)
        goes_on, sharpening, choosing = (self._output @ hidden + self._bias).tolist()

        probability = 1 / (1 + math.exp(-goes_on))
        sharpening, choosing = _softplus(sharpening), _softplus(choosing)
        sharpened = [
            b * (c + LEAST_EVIDENCE) ** sharpening for b, c in zip(belief, confidence, strict=True)
        ]
        chosen = [(1 - b) * c**choosing for b, c in zip(belief, confidence, strict=True)]
        old = sum(sharpened) + others * untold * (unsaid + LEAST_EVIDENCE) ** sharpening
        new = sum(chosen) + others * (1 - untold) * unsaid**choosing
        kept, taken = probability / old, (1 - probability) / new
        shares = [kept * one + taken * other for one, other in zip(sharpened, chosen, strict=True)]
        likeliest = sorted(zip(shares, named, strict=True), reverse=True)[:REMEMBERED]
        return Continuation(
            probability, tuple([RankedIntent(name, share) for share, name in likeliest])
        )

    def _rest(self, known: Mapping[str, float]) -> float:
        rest = max(LEAST_REST, 1 - sum(known.values()))
        return rest / max(1, len(self._intents) - len(known))


def _log_odds(share: float) -> float:
    capped = min(1 - 1e-4, max(1e-4, share))
    return math.log(capped / (1 - capped))


def _softplus(value: float) -> float:
    return math.log1p(math.exp(-abs(value))) + max(value, 0.0)
