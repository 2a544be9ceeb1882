"""How a training went so far: each checkpoint on a line, and a picture of all."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from generator.teaching.training import Checkpoint, Figures

READER_PANELS = {
    "training loss": ("reading", "finding", "matching"),
    "on validation fields": ("sentence@1", "sentence@3", "page@1", "page@3", "AUROC"),
}
WRITER_PANELS = {"nats a word": ("training", "validation")}
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00")


class Course:
    """An interrupted training goes on in the same file and the same picture."""

    def __init__(self, lines: Path, picture: Path, panels: Mapping[str, Sequence[str]]) -> None:
        """`panels`: by their titles, the figures that each of them shows."""
        self._lines, self._picture, self._panels = lines, picture, panels

    def add(self, checkpoint: Checkpoint) -> None:
        step = checkpoint.step
        row = {"step": float(step.number), **step.losses, **checkpoint.validation}
        rows = [one for one in self._rows() if one["step"] < step.number] + [row]
        self._lines.write_text("".join(json.dumps(one) + "\n" for one in rows))
        self._draw(rows)

    def _rows(self) -> list[Figures]:
        if not self._lines.exists():
            return []
        return [json.loads(line) for line in self._lines.read_text().splitlines()]

    def _draw(self, rows: Sequence[Figures]) -> None:
        from matplotlib.figure import Figure
        from matplotlib.ticker import MaxNLocator

        figure = Figure(figsize=(4 * len(self._panels), 3.2), layout="constrained")
        each = figure.subplots(1, len(self._panels), squeeze=False)[0]
        for axes, (title, names) in zip(each, self._panels.items(), strict=True):
            for name, colour in zip(names, COLOURS, strict=False):
                points = [(row["step"], row[name]) for row in rows if name in row]
                if points:
                    axes.plot(*zip(*points, strict=True), ".-", color=colour, label=name)
            axes.set_title(title)
            axes.set_xlabel("step")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.grid(alpha=0.3)
            axes.spines[["top", "right"]].set_visible(False)
            if axes.lines:
                axes.legend(frameon=False)
        draft = self._picture.with_suffix(".part.svg")
        figure.savefig(draft)
        draft.replace(self._picture)
