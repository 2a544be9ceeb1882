"""How a pre-training went so far: each epoch on a line, and a picture of all."""

import json
from dataclasses import asdict
from pathlib import Path

from intent.pretraining import PretrainingEpoch


class Course:
    """An interrupted run goes on in the same file and the same picture."""

    def __init__(self, lines: Path, picture: Path) -> None:
        self._lines, self._picture = lines, picture

    def add(self, epoch: PretrainingEpoch) -> None:
        rows = [row for row in self._rows() if row["number"] < epoch.number] + [asdict(epoch)]
        self._lines.parent.mkdir(parents=True, exist_ok=True)
        self._lines.write_text("".join(json.dumps(row) + "\n" for row in rows))
        self._draw(rows)

    def _rows(self) -> list[dict[str, float]]:
        if not self._lines.exists():
            return []
        return [json.loads(line) for line in self._lines.read_text().splitlines()]

    def _draw(self, rows: list[dict[str, float]]) -> None:
        from matplotlib.figure import Figure
        from matplotlib.ticker import MaxNLocator

        figure = Figure(figsize=(8, 3.2), layout="constrained")
        loss, likeness = figure.subplots(1, 2)
        epochs = [row["number"] for row in rows]
        loss.plot(epochs, [row["train_loss"] for row in rows], marker="o", color="#0072b2")
        loss.set_title("training loss")
        for key, label, colour in (
            ("valid_cosine", "cosine to the teacher", "#0072b2"),
            ("valid_agreement", "same nearest neighbour", "#d55e00"),
        ):
            likeness.plot(epochs, [row[key] for row in rows], "o-", color=colour, label=label)
        likeness.set_title("on held-out sentences")
        likeness.set_ylim(0, 1)
        likeness.legend(frameon=False, loc="lower right")
        for axes in (loss, likeness):
            axes.set_xlabel("epoch")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.grid(alpha=0.3)
            axes.spines[["top", "right"]].set_visible(False)
        draft = self._picture.with_suffix(".part.svg")
        figure.savefig(draft)
        draft.replace(self._picture)
