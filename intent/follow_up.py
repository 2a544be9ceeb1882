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
from operator import add
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
NOTHING = np.zeros(HIDDEN, np.float32)
LEAST_REST = 1e-3
LEAST_EVIDENCE = 0.01
MOST_LOG_ODDS = math.log((1 - 1e-4) / 1e-4)
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
        self._words = FEATURE_SCALE * weights["words.weight"]
        bias = weights["words.bias"][:, None]
        self._signals = np.hstack([weights["signals.weight"], bias])  # (H, SIGNALS + 1)
        self._output, self._bias = weights["output.weight"], weights["output.bias"].tolist()

    @classmethod
    def of(cls, head: FollowUpHead | None, intents: Sequence[str]) -> Self | None:
        return cls(head, intents) if head is not None else None

    def follow(self, prediction: Prediction, topics: Sequence[RankedIntent]) -> Continuation:
        if prediction.direction is None:  # no words
            return Continuation(0.0, tuple(topics))
        # A new model version may not know them.
        before = {intent: share for intent, share in topics if intent in self._intents}
        if not before:
            return Continuation(0.0, prediction.ranking[:REMEMBERED])
        said = prediction.ranking
        # Of each intent that is not named there.
        unsaid = self._rest(sum([share for _, share in said]), len(said))
        untold = self._rest(sum(before.values()), len(before))
        named = [(intent, before.pop(intent, untold), share) for intent, share in said]
        named += [(intent, share, unsaid) for intent, share in before.items()]
        others = len(self._intents) - len(named)

        agreeing, elsewhere = others * untold * unsaid, 0.0
        topic, belief, confidence = named[0]
        for one, believed, confident in named:
            both = believed * confident
            agreeing += both
            if confident - both > elsewhere:  # noqa: PLR1730 - max() would take three times as long
                elsewhere = confident - both
            if believed > belief:
                topic, belief, confidence = one, believed, confident
        signals = (
            _log_odds(agreeing),
            _log_odds(prediction.confidence),
            _log_odds(confidence),
            _log_odds(elsewhere),
            topic == prediction.intent,
            _log_odds(belief),
            max(LEAST_SCOPE, prediction.scope_score) / 3,
            math.log1p(prediction.tokens),
            1.0,
        )
        hidden = self._words.dot(prediction.direction)
        hidden += self._signals.dot(np.array(signals, np.float32))
        outputs = self._output.dot(np.maximum(hidden, NOTHING)).tolist()
        goes_on, sharpening, choosing = map(add, outputs, self._bias)

        probability = 1 / (1 + math.exp(-goes_on))
        sharpening, choosing = _softplus(sharpening), _softplus(choosing)
        old = others * untold * (unsaid + LEAST_EVIDENCE) ** sharpening
        new = others * (1 - untold) * unsaid**choosing
        moved = []
        for one, believed, confident in named:
            old += (sharpened := believed * (confident + LEAST_EVIDENCE) ** sharpening)
            new += (chosen := (1 - believed) * confident**choosing)
            moved.append((sharpened, chosen, one))
        kept, taken = probability / old, (1 - probability) / new
        shares = [(kept * sharpened + taken * chosen, one) for sharpened, chosen, one in moved]
        shares.sort(reverse=True)
        likeliest = [RankedIntent(one, share) for share, one in shares[:REMEMBERED]]
        return Continuation(probability, tuple(likeliest))

    def _rest(self, known: float, count: int) -> float:
        rest = 1 - known
        return (rest if rest > LEAST_REST else LEAST_REST) / (len(self._intents) - count or 1)


def _log_odds(share: float) -> float:
    if share < 1e-4:
        return -MOST_LOG_ODDS
    return math.log(share / (1 - share)) if share < 1 - 1e-4 else MOST_LOG_ODDS


def _softplus(value: float) -> float:
    return math.log1p(math.exp(-abs(value))) + max(value, 0.0)
