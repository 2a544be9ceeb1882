"""What the runs say, as tables for a terminal and for a page."""

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import rich.table

DISPLAY = {"rnn": "plain RNN", "lstm": "LSTM", "gru": "GRU"}


@dataclass(frozen=True)
class Run:
    """One training. `at` is the distance k, or the longest utterance learned from; `norms` are
    of the gradient before clipping; `seconds` is CPU time of all steps."""

    experiment: str
    cell: str
    variant: str
    at: int
    seed: int
    accuracy: float
    losses: list[float] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)
    seconds: float = 0.0
    by_length: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Table:
    title: str
    headers: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]

    def rich(self) -> rich.table.Table:
        table = rich.table.Table(*self.headers, title=self.title, title_justify="left")
        for row in self.rows:
            table.add_row(*row)
        return table

    def markdown(self) -> str:
        lines = [self.headers, ("---",) * len(self.headers), *self.rows]
        return f"**{self.title}**\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines)


def tables(runs: Sequence[Run], *, data_name: str) -> list[Table]:
    """Of each experiment that was run."""
    makers: dict[str, Callable[[Sequence[Run]], Table]] = {
        "reach": reach_table,
        "memory": memory_table,
        "clipping": clipping_table,
        "length": length_table,
        "intents": lambda found: intents_table(found, data_name),
    }
    return [make(found) for name, make in makers.items() if (found := only(runs, name))]


def reach_table(runs: Sequence[Run]) -> Table:
    distances = [k for k in (5, 10, 20, 40, 80, 160) if k < len(runs[0].norms)]
    rows = []
    for (variant, cell), found in grouped(runs, "variant", "cell"):
        shares = [statistics.median(run.norms[k] for run in found) for k in distances]
        rows.append((DISPLAY[cell], variant, *(small(share) for share in shares)))
    return Table(
        "Gradient that arrives k words back, as a share of the last word's, before training",
        ("cell", "start", *(f"k = {k}" for k in distances)),
        rows,
    )


def memory_table(runs: Sequence[Run]) -> Table:
    distances = sorted({run.at for run in runs})
    rows = []
    for (variant, cell), found in grouped(runs, "variant", "cell"):
        cells = []
        for distance in distances:
            accuracies = [run.accuracy for run in found if run.at == distance]
            cells.append(mean_and_spread(accuracies) if accuracies else "–")
        rows.append((variant, DISPLAY[cell], *cells))
    return Table(
        "Accuracy of recalling one of four symbols k words later, % (chance: 25)",
        ("variant", "cell", *(f"k = {k}" for k in distances)),
        rows,
    )


def clipping_table(runs: Sequence[Run]) -> Table:
    rows = []
    for (variant, cell), found in grouped(runs, "variant", "cell"):
        solved = sum(run.accuracy > 0.95 for run in found)
        largest = [max(run.norms) for run in found]
        rows.append(
            (
                DISPLAY[cell],
                *variant.split(", "),
                f"{solved} of {len(found)}",
                mean_and_spread([run.accuracy for run in found]),
                f"{statistics.median(largest):.3g}",
                f"{max(largest):.3g}",
            )
        )
    return Table(
        "A symbol 20 words back, from a start that stretches or keeps the state",
        (
            "cell",
            "optimizer",
            "gradient",
            "learned it",
            "accuracy, %",
            "largest norm",
            "of all seeds",
        ),
        rows,
    )


def length_table(runs: Sequence[Run]) -> Table:
    lengths = sorted({int(key.split()[1]) for key in runs[0].by_length})
    shown = {lengths[len(lengths) // 2], lengths[-1]}  # all of them are in the picture
    columns = [key for key in runs[0].by_length if int(key.split()[1]) in shown]
    rows = []
    for (variant, cell), found in grouped(runs, "variant", "cell"):
        values = (mean_and_spread([run.by_length[column] for run in found]) for column in columns)
        rows.append((variant, DISPLAY[cell], *values))
    return Table(
        "Accuracy by number of words, % (chance: 6), learned from 8 to 14; of two requests "
        "the later counts; they are early, far apart, or late",
        ("variant", "cell", *columns),
        rows,
    )


def intents_table(runs: Sequence[Run], data_name: str) -> Table:
    rows = []
    for (variant, cell), found in grouped(runs, "variant", "cell"):
        milliseconds = [1000 * run.seconds / len(run.losses) for run in found]
        ends = [statistics.mean(run.losses[-20:]) for run in found]
        middles = [statistics.median(run.norms) for run in found]
        rows.append(
            (
                variant,
                DISPLAY[cell],
                mean_and_spread([run.accuracy for run in found]),
                f"{statistics.mean(ends):.2f}",
                f"{statistics.mean(middles):.2f}",
                f"{max(max(run.norms) for run in found):.1f}",
                f"{statistics.mean(milliseconds):.0f}",
            )
        )
    return Table(
        f"From scratch on {data_name}: held-out accuracy",
        (
            "variant",
            "cell",
            "accuracy, %",
            "last loss",
            "norm: median",
            "largest",
            "CPU ms a step",
        ),
        rows,
    )


def only(runs: Iterable[Run], experiment: str) -> list[Run]:
    return [run for run in runs if run.experiment == experiment]


def grouped(runs: Iterable[Run], *names: str) -> list[tuple[tuple[str, ...], list[Run]]]:
    """In the order of first appearance."""
    groups: dict[tuple[str, ...], list[Run]] = {}
    for run in runs:
        groups.setdefault(tuple(getattr(run, name) for name in names), []).append(run)
    return list(groups.items())


def small(share: float) -> str:
    return f"{share:.0e}" if share > 1e-30 else "< 1e-30"  # below, single precision ends


def mean_and_spread(accuracies: Sequence[float]) -> str:
    """In per cent; the spread is the standard deviation between seeds."""
    mean = f"{100 * statistics.mean(accuracies):.0f}"
    if len(accuracies) < 2:
        return mean
    return f"{mean} ± {100 * statistics.stdev(accuracies):.0f}"
