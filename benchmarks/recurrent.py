"""A laboratory for recurrent networks: what a cell remembers, and what that is worth to intents.

    python -m benchmarks.recurrent [--quick] [--only NAME] [--output FOLDER]

It studies `intent.network` itself: rnn, lstm and gru, one and two directions, with and without
gradient clipping and layer norm. Prints its tables; with --output it writes them as report.md,
the plots as PNG, and every run with its curves as runs.jsonl. The intent set is banking77 at ten
examples an intent where TWOFOLD_DATA names a folder that holds intents/banking77, and the demo
assistant's examples otherwise. One thread; the same seeds give the same figures on one machine.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.laboratory.figures import draw_figures
from benchmarks.laboratory.fitting import FULL, QUICK
from benchmarks.laboratory.memory import REACHES, clipping, memory, reach
from benchmarks.laboratory.report import Run, tables
from benchmarks.laboratory.utterances import intent_set, intents, length

NAMES = ("reach", "memory", "clipping", "length", "intents")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.recurrent", description=(__doc__ or "").split("\n", 1)[0]
    )
    parser.add_argument("--quick", action="store_true", help="under a minute; proves nothing")
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="for report.md and plots")
    parser.add_argument("--only", choices=NAMES, action="append", help="may be given twice")
    parser.add_argument("--intent-steps", type=int, metavar="N", help="training steps on intents")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    size = QUICK if options.quick else FULL
    size = replace(size, intent_steps=options.intent_steps or size.intent_steps)
    data_name, kept, apart = intent_set()
    console = Console(width=max(100, Console().width))
    experiments: tuple[tuple[str, int, Iterator[Run]], ...] = (
        ("reach", len(REACHES) * size.seeds, reach(size)),
        ("memory", 6 * 3 * len(size.distances) * size.seeds, memory(size)),
        ("clipping", 12 * size.clipping_seeds, clipping(size)),
        ("length", 12 * size.seeds, length(size)),
        ("intents", 12 * size.seeds, intents(size, kept, apart)),
    )
    runs: list[Run] = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), console=console) as progress:
        for name, most, experiment in experiments:
            if options.only and name not in options.only:
                continue
            task = progress.add_task(name, total=most)
            for run in experiment:
                runs.append(run)
                progress.advance(task)
            done = progress.tasks[task].completed
            progress.update(task, total=done)  # a run that could only fail was left out
    report = tables(runs, data_name=data_name)
    for table in report:
        console.print(table.rich())
    if options.output:
        options.output.mkdir(parents=True, exist_ok=True)
        text = "\n\n".join(table.markdown() for table in report)
        (options.output / "report.md").write_text(text + "\n", encoding="utf-8")
        lines = (json.dumps(asdict(run)) + "\n" for run in runs)
        (options.output / "runs.jsonl").write_text("".join(lines), encoding="utf-8")
        for path in draw_figures(runs, options.output):
            console.print(f"wrote {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
