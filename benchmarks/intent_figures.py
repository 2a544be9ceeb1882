"""What is measured of a fitted classifier: how right it is, and what it costs."""

import gc
import random
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import psutil

from benchmarks.intent_engines import Classifier, Fitted
from intent.calibration import expected_calibration_error, reliability
from intent.data import TrainingSet
from intent.evaluation import auroc, false_positive_rate
from intent.robustness import measure_robustness, with_typo
from intent.slots import score_slots
from intent.text import tokenize

ROUNDS = 7
WORDS = 12
BATCH = 64
SINGLE_MESSAGES = 100
BATCHED_MESSAGES = 20 * BATCH
WARM_UP = 2_000
REPOSITORY = Path(__file__).parent.parent


@dataclass(frozen=True, slots=True)
class Figure:
    table: str
    row: str
    engine: str
    value: float
    unit: str
    """"%" and "points" are shares here, shown times 100; "" is shown with three decimals."""
    seed: int | None = None


def accuracy_figures(
    fitted: Fitted, test: TrainingSet, *, row: str, engine: str, seed: int
) -> Iterator[Figure]:
    """`row`: data and number of examples. Out-of-scope figures where `test` has such examples;
    what needs a calibrated engine is left out where this one is not."""

    def figure(table: str, name: str, value: float, unit: str) -> Figure:
        return Figure(table, f"{row}: {name}", engine, value, unit, seed)

    classify = fitted.classifier.classify_batch
    found = classify([example.text for example in test.examples])
    right = [p.intent == e.intent for p, e in zip(found, test.examples, strict=True)]
    yield figure("Accuracy", "accuracy", sum(right) / len(right), "%")
    if fitted.finds_slots and any(example.slots for example in test.examples):
        scores = score_slots([e.slots for e in test.examples], [p.slots for p in found], right)
        yield figure("Accuracy", "slot F1", scores.all.f1, "%")
        yield figure("Accuracy", "sentences all right", scores.sentence_accuracy, "%")
    typos = measure_robustness("one typo", with_typo, test.examples, found, classify)
    yield figure("Trust", "accuracy lost with one typo", -typos.difference, "points")
    if fitted.is_calibrated:
        bins = reliability([prediction.confidence for prediction in found], right)
        error = expected_calibration_error(bins)
        yield figure("Trust", "expected calibration error", error, "%")
    if not test.out_of_scope:
        return
    strangers = classify([example.text for example in test.out_of_scope])
    inside = [prediction.scope_score for prediction in found]
    outside = [prediction.scope_score for prediction in strangers]
    yield figure("Trust", "out of scope, AUROC", auroc(inside, outside), "")
    rate = false_positive_rate(inside, outside, true_positive_rate=0.95)
    yield figure("Trust", "out of scope, FPR95", rate, "")
    if fitted.is_calibrated:
        passed = sum(p.in_scope and is_right for p, is_right in zip(found, right, strict=True))
        refused = sum(not prediction.in_scope for prediction in strangers)
        yield figure("Trust", "in-scope accuracy at the threshold", passed / len(found), "%")
        yield figure("Trust", "out-of-scope recall at the threshold", refused / len(strangers), "%")


def speed_figures(classifiers: dict[str, Classifier], texts: Sequence[str]) -> Iterator[Figure]:
    """Medians of rounds in which the engines take turns, so that what else the machine does
    meets all alike. CPU time of the whole process, other threads included. Each round has
    messages that no engine saw before, after a warm-up on others."""
    drawn = list(dict.fromkeys(texts))
    random.Random(0).shuffle(drawn)
    kept = min(WARM_UP, len(drawn) // 4)
    warm_up, drawn = drawn[:kept], drawn[kept:]
    single = [text for text in drawn if len(tokenize(text)) == WORDS]
    each: dict[str, list[float]] = {engine: [] for engine in classifiers}
    rate: dict[str, list[float]] = {engine: [] for engine in classifiers}
    for classifier in classifiers.values():
        for text in warm_up[:SINGLE_MESSAGES]:
            classifier.classify_batch([text])
        for batch in batches(warm_up):
            classifier.classify_batch(batch)
    for number in range(ROUNDS):
        alone = single[number::ROUNDS][:SINGLE_MESSAGES]
        together = drawn[number::ROUNDS][:BATCHED_MESSAGES]
        for engine, classifier in classifiers.items():
            gc.collect()
            started = time.process_time()
            for text in alone:
                classifier.classify_batch([text])
            between = time.process_time()
            for batch in batches(together):
                classifier.classify_batch(batch)
            ended = time.process_time()
            if alone:
                each[engine].append((between - started) / len(alone))
            rate[engine].append(len(together) / (ended - between))
    for engine in classifiers:
        if each[engine]:
            row = f"CPU a message of {WORDS} words"
            yield Figure("Cost", row, engine, median(each[engine]), "µs")
        row = f"messages a CPU-second, in batches of {BATCH}"
        yield Figure("Cost", row, engine, median(rate[engine]), "/s")


def batches(texts: Sequence[str]) -> list[Sequence[str]]:
    return [texts[start : start + BATCH] for start in range(0, len(texts), BATCH)]


def times_faster(figures: Sequence[Figure], reference: str) -> Iterator[Figure]:
    """How many times less CPU a message takes than `reference` takes in the same run."""
    times = {figure.engine: figure.value for figure in figures if figure.unit == "µs"}
    for engine, value in times.items():
        if reference in times:
            row = f"times less CPU a message than {reference}"
            yield Figure("Cost", row, engine, times[reference] / value, "×")


def serving_bytes(fitted: Fitted, texts: Sequence[str]) -> int:
    """Resident memory of a process that loads the classifier and uses it, above that of a
    Python that imported nothing."""
    use = (
        f"\nfor text in {list(texts)!a}: classifier.classify_batch([text])"
        f"\nclassifier.classify_batch({list(texts[:BATCH])!a})\n"
    )
    return _resident_bytes(fitted.serve + use) - _resident_bytes("")


def _resident_bytes(code: str) -> int:
    # The code comes by standard input: it may be longer than an argument may.
    wait = "print('ready', flush=True)\nimport sys\nsys.stdin.readline()\n"
    runner = "import sys; exec(sys.stdin.read(int(sys.argv[1])))"
    whole = code + "\n" + wait
    with subprocess.Popen(
        [sys.executable, "-c", runner, str(len(whole))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
    ) as process:
        assert process.stdin
        assert process.stdout
        process.stdin.write(whole)
        process.stdin.flush()
        if process.stdout.readline() != "ready\n":
            raise RuntimeError("a process that serves has died; see its message above")
        resident: int = psutil.Process(process.pid).memory_info().rss
        process.stdin.write("\n")
    return resident
