"""The intent engine and those it is measured against, behind one interface."""

import pickle
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from benchmarks.intent_minilm import (
    MiniLMClassifier,
    MiniLMEmbedder,
    export_encoder,
    save_head,
)
from benchmarks.intent_svm import LinearSVMClassifier
from intent.artifact import to_bytes
from intent.calibration import fit_temperature, softmax
from intent.classifier import GRUClassifier
from intent.config import FINE_TUNING, TrainingConfig
from intent.data import TrainingSet
from intent.encoder import PretrainedEncoder
from intent.interface import Prediction
from intent.scope import choose_threshold
from intent.training import Trained, train

Array = NDArray[np.float32]
STRENGTH = 20.0
"""Inverse of the regularisation of MiniLM's head, whose embeddings have length 1."""
OnProgress = Callable[[str], None]


class Classifier(Protocol):
    def classify_batch(self, texts: Sequence[str]) -> list[Prediction]: ...


@dataclass(frozen=True)
class Fitted:
    classifier: Classifier
    cpu_seconds: float
    """Spent on training, with reading nothing and calibrating included."""
    file_bytes: int
    is_calibrated: bool
    """Whether confidences and `in_scope` were fitted to utterances not trained on."""
    serve: str
    """Python that loads what was written and sets `classifier`."""
    finds_slots: bool = False


class EngineUnderTest(Protocol):
    title: str
    uses_seed: bool

    def fit(
        self, data: TrainingSet, valid: TrainingSet | None, folder: Path, seed: int, say: OnProgress
    ) -> Fitted:
        """Writes all that serving needs into `folder`, which is empty."""
        ...


class Skipped(Exception):
    """An engine that cannot run here; says why."""


class GRU:
    """With the command line's defaults: from the shipped encoder, or as `--from-scratch`."""

    uses_seed = True

    def __init__(self, *, from_scratch: bool = False) -> None:
        self.title = "GRU from scratch" if from_scratch else "GRU"
        self._encoder = None if from_scratch else PretrainedEncoder.load()

    def fit(
        self, data: TrainingSet, valid: TrainingSet | None, folder: Path, seed: int, say: OnProgress
    ) -> Fitted:
        started = time.process_time()
        config = replace(FINE_TUNING if self._encoder else TrainingConfig(), seed=seed)
        for step in train(data, config, valid=valid, encoder=self._encoder):
            if isinstance(step, Trained):
                trained = step
            else:
                say(f"epoch {step.number} of {step.of}")
        seconds = time.process_time() - started
        content = to_bytes(trained.artifact)
        path = folder / "gru.safetensors"
        path.write_bytes(content)
        return Fitted(
            classifier=GRUClassifier.load(content),
            cpu_seconds=seconds,
            file_bytes=len(content),
            is_calibrated=True,
            serve="from intent.classifier import GRUClassifier\n"
            f"classifier = GRUClassifier.load({str(path)!r})",
            finds_slots=True,
        )


class LinearSVM:
    """scikit-learn: words and their pairs, character 2- to 5-grams, one margin an intent."""

    title = "TF-IDF + SVM"
    uses_seed = False

    def __init__(self) -> None:
        if find_spec("sklearn") is None:
            raise Skipped("scikit-learn is not installed")

    def fit(
        self, data: TrainingSet, valid: TrainingSet | None, folder: Path, seed: int, say: OnProgress
    ) -> Fitted:
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.pipeline import make_pipeline, make_union
        from sklearn.svm import LinearSVC

        started = time.process_time()
        words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
        characters = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True)
        pipeline = make_pipeline(make_union(words, characters), LinearSVC(random_state=seed))
        pipeline.fit([e.text for e in data.examples], [e.intent for e in data.examples])
        intents = pipeline.classes_.tolist()
        classifier = LinearSVMClassifier(pipeline, intents, 1.0, 0.0)
        if valid:
            inside, outside = (
                classifier.margins([example.text for example in examples])
                if examples
                else np.empty((0, len(intents)), np.float32)
                for examples in (valid.examples, valid.out_of_scope)
            )
            classifier.temperature = fit_temperature(inside, labels(valid, intents))
            classifier.threshold = choose_threshold(inside.max(axis=1), outside.max(axis=1))
        seconds = time.process_time() - started
        path = folder / "svm.pickle"
        path.write_bytes(pickle.dumps(classifier))
        return Fitted(
            classifier=classifier,
            cpu_seconds=seconds,
            file_bytes=path.stat().st_size,
            is_calibrated=valid is not None,
            serve=f"import pickle\nclassifier = pickle.load(open({str(path)!r}, 'rb'))",
        )


class MiniLM:
    """The frozen encoder, and logistic regression on its embeddings."""

    title = "MiniLM INT8"
    uses_seed = False

    def __init__(self, teacher: Path | None, scratch: Path) -> None:
        if teacher is None:
            raise Skipped("name the folder of all-MiniLM-L6-v2 with --teacher")
        if missing := [name for name in ("transformers", "sklearn") if find_spec(name) is None]:
            raise Skipped(f"{' and '.join(missing)} not installed")
        try:
            export_encoder(teacher, scratch)
        except (OSError, ValueError) as error:
            reason = str(error).split("\n", maxsplit=1)[0]
            raise Skipped(f"{teacher} holds no sentence encoder ({reason})") from error
        self._exported = scratch

    def fit(
        self, data: TrainingSet, valid: TrainingSet | None, folder: Path, seed: int, say: OnProgress
    ) -> Fitted:
        from sklearn.linear_model import LogisticRegression

        shutil.copytree(self._exported, folder, dirs_exist_ok=True)
        started = time.process_time()
        embedder = MiniLMEmbedder(folder)
        say(f"embedding {len(data.examples):,} examples")
        embeddings = embedder.embed([example.text for example in data.examples])
        say("fitting the head")
        head = LogisticRegression(C=STRENGTH, max_iter=300)
        head.fit(embeddings, [example.intent for example in data.examples])
        intents = head.classes_.tolist()
        weights, biases = head.coef_.T, head.intercept_
        if len(intents) == 2:
            weights, biases = np.hstack([-weights, weights]), np.hstack([-biases, biases])
        save_head(folder, weights, biases, intents)
        if valid:
            classifier = MiniLMClassifier(folder)
            inside, outside = (
                classifier.logits([example.text for example in examples])
                if examples
                else np.empty((0, len(intents)), np.float32)
                for examples in (valid.examples, valid.out_of_scope)
            )
            temperature = fit_temperature(inside, labels(valid, intents))
            threshold = choose_threshold(
                softmax(inside, temperature).max(axis=1), softmax(outside, temperature).max(axis=1)
            )
            save_head(
                folder, weights, biases, intents, temperature=temperature, threshold=threshold
            )
        seconds = time.process_time() - started
        return Fitted(
            classifier=MiniLMClassifier(folder),
            cpu_seconds=seconds,
            file_bytes=sum(file.stat().st_size for file in folder.iterdir()),
            is_calibrated=valid is not None,
            serve="from pathlib import Path\n"
            "from benchmarks.intent_minilm import MiniLMClassifier\n"
            f"classifier = MiniLMClassifier(Path({str(folder)!r}))",
        )


def labels(data: TrainingSet, intents: Sequence[str]) -> NDArray[np.int64]:
    place = {intent: number for number, intent in enumerate(intents)}
    return np.array([place[example.intent] for example in data.examples], np.int64)
