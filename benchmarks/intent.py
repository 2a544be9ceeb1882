"""The intent engine beside scikit-learn's TF-IDF with a linear SVM and MiniLM, in one run.

    TWOFOLD_DATA=/path/to/data python -m benchmarks.intent [--teacher FOLDER] [--json FILE]

The data folder holds intents/<set>/train.jsonl, valid.jsonl and test.jsonl; train_10.jsonl and
train_5.jsonl for the few-shot figures, which have no validation data; and for the out-of-scope
figures oos_valid.jsonl (which chooses the threshold) and oos_test.jsonl. `--teacher` names the
folder of all-MiniLM-L6-v2. One thread; the training and the defaults of the command line.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import mean, stdev

from rich import box
from rich.console import Console
from rich.status import Status
from rich.table import Table

from benchmarks.intent_engines import GRU, EngineUnderTest, Fitted, LinearSVM, MiniLM, Skipped
from benchmarks.intent_figures import (
    Figure,
    accuracy_figures,
    serving_bytes,
    speed_figures,
    times_faster,
)
from benchmarks.one_thread import use_one_thread
from intent.data import Example, TrainingSet, read, training_set
from intent.interface import OUT_OF_SCOPE

SETS = ("clinc150", "banking77", "snips")
ENGINES = ("gru", "svm", "minilm")
SEVERAL_INTENTS, EXAMPLES_OF_EACH = 20, 15
SERVED_MESSAGES = 200


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    root = os.environ.get("TWOFOLD_DATA")
    if not root:
        print("skipped: set TWOFOLD_DATA to the folder that holds intents/")
        return 0
    folders = {name: Path(root, "intents", name) for name in options.sets}
    for name in [name for name, folder in folders.items() if not folder.is_dir()]:
        print(f"skipped {name}: {folders.pop(name)} does not exist")
    if not folders:
        return 0
    # So that a table sent to a file is not folded.
    console = Console(width=None if sys.stdout.isatty() else 160)
    figures: list[Figure] = []
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        use_one_thread(stack)
        log = Console(stderr=True)
        status = stack.enter_context(log.status("starting"))
        bench = Bench(
            _engines(options.engines, options.teacher, scratch, log), scratch, log, status
        )
        try:
            if not options.speed_only:
                for name, folder in folders.items():
                    figures.extend(bench.accuracy(name, folder, options.shots, options.seeds))
            name, folder = next(iter(folders.items()))
            figures.extend(bench.cost(name, folder, options.seeds[0]))
        except KeyboardInterrupt:
            log.print("stopped; the tables hold what was finished")
    for table in tables(figures):
        console.print(table)
        console.print()
    console.print(
        "Spread: the standard deviation over seeds, where an engine has any use for them."
    )
    if options.json:
        rows = [asdict(figure) for figure in figures]
        options.json.write_text(json.dumps(rows, indent=1, ensure_ascii=False), encoding="utf-8")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.intent",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--sets",
        nargs="+",
        default=SETS,
        metavar="SET",
        help="speed and memory are measured with the first (default: all)",
    )
    parser.add_argument(
        "--shots",
        nargs="+",
        type=int,
        default=(0, 10, 5),
        metavar="N",
        help="examples an intent; 0: all there are (default: 0 10 5)",
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=(0, 1, 2), metavar="N")
    parser.add_argument("--engines", nargs="+", default=ENGINES, choices=ENGINES)
    parser.add_argument("--teacher", type=Path, metavar="FOLDER", help="all-MiniLM-L6-v2")
    parser.add_argument("--json", type=Path, metavar="FILE", help="every figure of every seed")
    parser.add_argument(
        "--speed-only",
        action="store_true",
        help="only what training and serving cost, with the first seed",
    )
    return parser


def _engines(
    names: Sequence[str], teacher: Path | None, scratch: Path, log: Console
) -> list[EngineUnderTest]:
    found: list[EngineUnderTest] = []
    for name in names:
        try:
            if name == "minilm":
                exported = scratch / "exported"
                exported.mkdir()
                found.append(MiniLM(teacher, exported))
            else:
                found.append(GRU() if name == "gru" else LinearSVM())
        except Skipped as reason:
            log.print(f"skipped {name}: {reason}")
    return found


@dataclass
class Bench:
    engines: Sequence[EngineUnderTest]
    scratch: Path
    log: Console
    status: Status

    def __post_init__(self) -> None:
        self._fitted: dict[tuple[str, str], Fitted] = {}
        """On all examples of a set with the first seed, which the cost is measured with."""

    def accuracy(
        self, name: str, folder: Path, shots: Sequence[int], seeds: Sequence[int]
    ) -> Iterator[Figure]:
        test = with_strangers(read(folder / "test.jsonl"), folder / "oos_test.jsonl")
        for shot in shots:
            source = folder / (f"train_{shot}.jsonl" if shot else "train.jsonl")
            if not source.exists():
                self.log.print(f"skipped {name} with {shot} an intent: no {source.name}")
                continue
            data, valid = read(source), None if shot else validation(folder)
            row = f"{name}, {f'{shot} an intent' if shot else 'all'}"
            for engine in self.engines:
                for seed in seeds if engine.uses_seed else seeds[:1]:
                    fitted = self._fit(engine, data, valid, seed, f"{row}, seed {seed}")
                    if not shot and seed == seeds[0]:
                        self._fitted[name, engine.title] = fitted
                    self.status.update(f"{row}, seed {seed}, {engine.title}: testing")
                    found = list(
                        accuracy_figures(fitted, test, row=row, engine=engine.title, seed=seed)
                    )
                    if not shot:
                        found.append(_training_time(row, engine, fitted, seed))
                    self.log.print(f"    {found[0].value:.1%} of the test right")
                    yield from found

    def cost(self, name: str, folder: Path, seed: int) -> Iterator[Figure]:
        data, valid = read(folder / "train.jsonl"), validation(folder)
        small = _part(data)
        few = f"{len(small.intents)} intents × {EXAMPLES_OF_EACH} examples of {name}"
        served: dict[str, Fitted] = {}
        for engine in self.engines:
            fitted = self._fit(engine, small, None, seed, few)
            yield _training_time(few, engine, fitted, seed)
            if (name, engine.title) in self._fitted:
                served[engine.title] = self._fitted[name, engine.title]
            else:
                row = f"{name}, all"
                served[engine.title] = self._fit(engine, data, valid, seed, row)
                yield _training_time(row, engine, served[engine.title], seed)
        everything = (data, valid, read(folder / "test.jsonl"))
        texts = [example.text for part in everything for example in part.examples]
        for title, fitted in served.items():
            self.status.update(f"{title}: memory")
            yield Figure("Cost", f"{name}, all: files", title, fitted.file_bytes / 1e6, "MB")
            memory = serving_bytes(fitted, texts[:: max(1, len(texts) // SERVED_MESSAGES)])
            yield Figure("Cost", f"{name}, all: memory to serve", title, memory / 1e6, "MB")
        self.status.update("speed, the engines in turn")
        speeds = list(speed_figures({t: fitted.classifier for t, fitted in served.items()}, texts))
        yield from speeds
        yield from times_faster(speeds, MiniLM.title)

    def _fit(
        self,
        engine: EngineUnderTest,
        data: TrainingSet,
        valid: TrainingSet | None,
        seed: int,
        what: str,
    ) -> Fitted:
        folder = Path(tempfile.mkdtemp(dir=self.scratch))
        started = time.monotonic()

        def say(news: str) -> None:
            seconds = time.monotonic() - started
            self.status.update(f"{what}, {engine.title}: {news} ({seconds:.0f} s)")

        say("training")
        fitted = engine.fit(data, valid, folder, seed, say)
        self.log.print(f"{what}, {engine.title}: trained in {fitted.cpu_seconds:.1f} CPU-seconds")
        return fitted


def _training_time(row: str, engine: EngineUnderTest, fitted: Fitted, seed: int) -> Figure:
    return Figure("Cost", f"{row}: training", engine.title, fitted.cpu_seconds, "CPU-s", seed)


def validation(folder: Path) -> TrainingSet:
    return with_strangers(read(folder / "valid.jsonl"), folder / "oos_valid.jsonl")


def with_strangers(data: TrainingSet, path: Path) -> TrainingSet:
    if not path.exists():
        return data
    strangers = (replace(example, intent=OUT_OF_SCOPE) for example in _all_examples(path))
    return replace(data, out_of_scope=tuple(strangers))


def _all_examples(path: Path) -> tuple[Example, ...]:
    found = read(path)
    return found.examples + found.out_of_scope


def _part(data: TrainingSet) -> TrainingSet:
    """As an operator begins: few intents, few examples."""
    chosen: list[Example] = []
    for intent in data.intents[:SEVERAL_INTENTS]:
        chosen += [e for e in data.examples if e.intent == intent][:EXAMPLES_OF_EACH]
    return training_set(chosen)


def tables(figures: Sequence[Figure]) -> list[Table]:
    """In Markdown. A row for what was measured, a column for each engine."""
    engines = list(dict.fromkeys(figure.engine for figure in figures))
    values: dict[str, dict[str, dict[str, list[Figure]]]] = {}
    for figure in figures:
        row = values.setdefault(figure.table, {}).setdefault(figure.row, {})
        row.setdefault(figure.engine, []).append(figure)
    found = []
    for name, rows in values.items():
        table = Table(name, box=box.MARKDOWN)
        for engine in engines:
            table.add_column(engine, justify="right")
        for row_name, row in rows.items():
            table.add_row(row_name, *(_shown(row.get(engine, [])) for engine in engines))
        found.append(table)
    return found


def _shown(figures: Sequence[Figure]) -> str:
    """Mean and standard deviation over the seeds."""
    if not figures:
        return "–"
    unit = figures[0].unit
    scale = 100 if unit in {"%", "points"} else 1e6 if unit == "µs" else 1
    shown = [figure.value * scale for figure in figures]
    digits = 0 if unit in {"µs", "/s"} else 3 if not unit else 1
    spread = f" ± {stdev(shown):.{digits or 1}f}" if len(shown) > 1 else ""
    return f"{mean(shown):,.{digits}f}{spread} {unit}".rstrip()


if __name__ == "__main__":
    sys.exit(main())
