"""What the encoder, pre-trained on English, is worth in other languages.

    python -m benchmarks.languages [--seeds 0 1 2] [--json FILE]

benchmarks/languages holds the same 400 utterances of 20 intents in six languages, line by line.
Half of each intent's lines train, the other half test; a seed chooses them, the same lines in
every language. So a language differs from English in its words alone. One thread; the training
and the defaults of the command line.
"""

import argparse
import json
import random
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, stdev

from rich import box
from rich.console import Console
from rich.status import Status
from rich.table import Table

from benchmarks.intent_engines import (
    GRU,
    EngineUnderTest,
    LinearSVM,
    Skipped,
)
from benchmarks.one_thread import use_one_thread
from intent.data import Example, read, training_set

FOLDER = Path(__file__).with_suffix("")
LANGUAGES = {
    "en": "English",
    "de": "German",
    "es": "Spanish",
    "ru": "Russian",
    "zh": "Chinese",
    "ar": "Arabic",
}
"""English first: the others are compared with it."""
TRAINED_OF_EACH = 10


@dataclass(frozen=True, slots=True)
class Score:
    language: str
    engine: str
    seed: int
    accuracy: float


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    # So that a table sent to a file is not folded.
    console = Console(width=None if sys.stdout.isatty() else 160)
    log = Console(stderr=True)
    scores: list[Score] = []
    with ExitStack() as stack:
        use_one_thread(stack)
        status = stack.enter_context(log.status("starting"))
        try:
            for score in measure(_engines(log), options.seeds, status):
                name = LANGUAGES[score.language]
                log.print(f"{name}, seed {score.seed}, {score.engine}: {score.accuracy:.1%} right")
                scores.append(score)
        except KeyboardInterrupt:
            log.print("stopped; the table holds what was finished")
    console.print(table(scores))
    if options.json:
        rows = [asdict(score) for score in scores]
        options.json.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.languages",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=(0, 1, 2), metavar="N")
    parser.add_argument("--json", type=Path, metavar="FILE", help="every accuracy of every seed")
    return parser


def _engines(log: Console) -> list[EngineUnderTest]:
    engines: list[EngineUnderTest] = [GRU(), GRU(from_scratch=True)]
    try:
        engines.append(LinearSVM())
    except Skipped as reason:
        log.print(f"skipped {LinearSVM.title}: {reason}")
    return engines


def measure(
    engines: Sequence[EngineUnderTest], seeds: Sequence[int], status: Status
) -> Iterator[Score]:
    for language, name in LANGUAGES.items():
        examples = utterances(language)
        for seed in seeds:
            training, test = _parts(examples, seed)
            for engine in engines:
                what = f"{name}, seed {seed}, {engine.title}"

                def say(news: str, what: str = what) -> None:
                    status.update(f"{what}: {news}")

                with tempfile.TemporaryDirectory() as scratch:
                    fitted = engine.fit(training_set(training), None, Path(scratch), seed, say)
                found = fitted.classifier.classify_batch([example.text for example in test])
                right = sum(p.intent == e.intent for p, e in zip(found, test, strict=True))
                yield Score(language, engine.title, seed, right / len(test))


def utterances(language: str) -> tuple[Example, ...]:
    return read(FOLDER / f"{language}.jsonl").examples


def _parts(examples: Sequence[Example], seed: int) -> tuple[list[Example], list[Example]]:
    trained = lines_to_train([example.intent for example in examples], seed)
    return (
        [example for line, example in enumerate(examples) if line in trained],
        [example for line, example in enumerate(examples) if line not in trained],
    )


def lines_to_train(intents: Sequence[str], seed: int) -> frozenset[int]:
    """Of each intent the same number. Texts have no say, so languages get the same lines."""
    lines_of: dict[str, list[int]] = defaultdict(list)
    for line, intent in enumerate(intents):
        lines_of[intent].append(line)
    draw = random.Random(seed)
    return frozenset(
        line for lines in lines_of.values() for line in draw.sample(lines, TRAINED_OF_EACH)
    )


def table(scores: Sequence[Score]) -> Table:
    """In Markdown. Points are means over the seeds that both languages were measured with."""
    found: dict[tuple[str, str], dict[int, float]] = defaultdict(dict)
    for score in scores:
        found[score.language, score.engine][score.seed] = score.accuracy
    engines = list(dict.fromkeys(score.engine for score in scores))
    english = next(iter(LANGUAGES))
    shown = Table(f"Accuracy, {TRAINED_OF_EACH} examples an intent", box=box.MARKDOWN)
    for engine in engines:
        shown.add_column(engine, justify="right")
        shown.add_column("points lost against English", justify="right")
    for language in dict.fromkeys(score.language for score in scores):
        cells: list[str] = []
        for engine in engines:
            here, there = found[language, engine], found[english, engine]
            lost = [there[seed] - accuracy for seed, accuracy in here.items() if seed in there]
            cells.append(_share(list(here.values())))
            cells.append(f"{100 * mean(lost):.1f}" if lost and language != english else "–")
        shown.add_row(LANGUAGES[language], *cells)
    return shown


def _share(values: Sequence[float]) -> str:
    """Mean and standard deviation over the seeds."""
    if not values:
        return "–"
    spread = f" ± {100 * stdev(values):.1f}" if len(values) > 1 else ""
    return f"{100 * mean(values):.1f}{spread} %"


if __name__ == "__main__":
    sys.exit(main())
