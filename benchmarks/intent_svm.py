"""A linear SVM at work. Apart from its training, so that to unpickle it imports no torch."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.intent_minilm import predictions
from intent.calibration import softmax
from intent.interface import Prediction

Array = NDArray[np.float32]


class LinearSVMClassifier:
    def __init__(
        self, pipeline: Any, intents: Sequence[str], temperature: float, threshold: float
    ) -> None:
        self.pipeline = pipeline
        self.intents = intents
        self.temperature = temperature
        self.threshold = threshold

    def margins(self, texts: Sequence[str]) -> Array:
        """(N, I). Of two intents scikit-learn gives the second's margin alone."""
        found: Array = self.pipeline.decision_function(texts).astype(np.float32)
        return found if found.ndim == 2 else np.stack([-found, found], axis=1)

    def classify_batch(self, texts: Sequence[str]) -> list[Prediction]:
        if not texts:
            return []
        margins = self.margins(texts)
        confidences = softmax(margins, self.temperature)
        return predictions(confidences, margins.max(axis=1), self.threshold, self.intents)
