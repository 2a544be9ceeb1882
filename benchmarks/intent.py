"""The intent engine beside scikit-learn's TF-IDF with a linear SVM, on public test sets.

    TWOFOLD_DATA=/path/to/data python -m benchmarks.intent [clinc150] [banking77] [snips]

The folder holds intents/<name>/train.jsonl, valid.jsonl, test.jsonl and, for the out-of-scope
figures, oos_test.jsonl. One thread, one seed, the defaults of the command line.
"""

import os
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import Pipeline, make_pipeline, make_union
from sklearn.svm import LinearSVC

from intent.classifier import GRUClassifier
from intent.data import TrainingSet, read
from intent.evaluation import auroc, evaluate, false_positive_rate
from intent.interface import OUT_OF_SCOPE
from intent.training import Trained, train

NAMES = ("clinc150", "banking77", "snips")


def main() -> int:
    root = os.environ.get("TWOFOLD_DATA")
    if not root:
        print("skipped: set TWOFOLD_DATA to the folder that holds intents/")
        return 0
    torch.set_num_threads(1)
    table = Table("data", "engine", "test accuracy", "AUROC", "FPR95", "train s", "µs each")
    for name in sys.argv[1:] or NAMES:
        folder = Path(root, "intents", name)
        if not folder.is_dir():
            print(f"skipped {name}: {folder} does not exist")
            continue
        for engine, measure in (("GRU", measure_gru), ("TF-IDF + SVM", measure_svm)):
            table.add_row(name, engine, *measure(folder))
    Console(width=100).print(table)
    return 0


def read_test(folder: Path) -> TrainingSet:
    test = read(folder / "test.jsonl")
    outside = folder / "oos_test.jsonl"
    if not outside.exists():
        return test
    strangers = (replace(e, intent=OUT_OF_SCOPE) for e in read(outside).examples)
    return replace(test, out_of_scope=tuple(strangers))


def measure_gru(folder: Path) -> tuple[str, ...]:
    data, valid, test = (
        read(folder / "train.jsonl"),
        read(folder / "valid.jsonl"),
        read_test(folder),
    )
    started = time.process_time()
    *_, trained = train(data, valid=valid)
    seconds = time.process_time() - started
    assert isinstance(trained, Trained)
    classifier = GRUClassifier(trained.artifact)
    evaluation = evaluate(classifier, test, basis="test")
    texts = [example.text for example in test.examples[:1000]]
    started = time.process_time()
    for text in texts:
        classifier.classify(text)
    each = (time.process_time() - started) / len(texts)
    outside = evaluation.out_of_scope
    return row(
        evaluation.accuracy,
        (outside.auroc, outside.false_positive_rate_at_95) if outside else None,
        seconds,
        each,
    )


def measure_svm(folder: Path) -> tuple[str, ...]:
    data, test = read(folder / "train.jsonl"), read_test(folder)
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    characters = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True)
    pipeline = make_pipeline(make_union(words, characters), LinearSVC())
    started = time.process_time()
    pipeline.fit([e.text for e in data.examples], [e.intent for e in data.examples])
    seconds = time.process_time() - started
    predicted = pipeline.predict([e.text for e in test.examples])
    right = sum(p == e.intent for p, e in zip(predicted, test.examples, strict=True))
    texts = [example.text for example in test.examples[:1000]]
    started = time.process_time()
    for text in texts:
        pipeline.predict([text])
    each = (time.process_time() - started) / len(texts)
    return row(right / len(test.examples), svm_scope(pipeline, test), seconds, each)


def svm_scope(pipeline: Pipeline, test: TrainingSet) -> tuple[float, float] | None:
    if not test.out_of_scope:
        return None
    inside, outside = (
        pipeline.decision_function([e.text for e in examples]).max(axis=1).tolist()
        for examples in (test.examples, test.out_of_scope)
    )
    return auroc(inside, outside), false_positive_rate(inside, outside, true_positive_rate=0.95)


def row(
    accuracy: float, scope: tuple[float, float] | None, seconds: float, each: float
) -> tuple[str, ...]:
    figures = (f"{scope[0]:.3f}", f"{scope[1]:.3f}") if scope else ("–", "–")
    return (f"{accuracy:.1%}", *figures, f"{seconds:.0f}", f"{each * 1e6:.0f}")


if __name__ == "__main__":
    sys.exit(main())
