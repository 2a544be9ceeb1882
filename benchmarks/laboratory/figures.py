"""The runs as pictures. Colours are Okabe and Ito's, which the colour-blind tell apart."""

import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.laboratory.report import DISPLAY, Run, grouped, only

COLOURS = {"rnn": "#D55E00", "lstm": "#0072B2", "gru": "#009E73"}
MARKERS = {"rnn": "o", "lstm": "s", "gru": "^"}
CHANCE = {"color": "#888888", "linewidth": 1, "linestyle": (0, (1, 2))}

BESIDE = {"rnn": 0.95, "gru": 1.0, "lstm": 1.05}  # so that equal accuracies hide nothing


def draw_figures(runs: Sequence[Run], folder: Path) -> list[Path]:
    drawings: tuple[tuple[str, Callable[[Sequence[Run]], Figure]], ...] = (
        ("reach", draw_reach),
        ("memory", draw_memory),
        ("clipping", draw_clipping),
        ("length", draw_length),
        ("intents", draw_intents),
    )
    paths = []
    for name, draw in drawings:
        found = only(runs, name)
        if not found:
            continue
        path = folder / f"{name}.png"
        # A picture names no software version, so that equal runs give equal files.
        draw(found).savefig(path, dpi=120, metadata={"Software": None})
        paths.append(path)
    return paths


def draw_reach(runs: Sequence[Run]) -> Figure:
    figure = Figure(figsize=(8, 4.6), layout="constrained")
    axes = figure.add_subplot()
    styles = {"default": "-", "pooled": (0, (1, 1))}
    for (variant, cell), found in grouped(runs, "variant", "cell"):
        shares = medians([run.norms for run in found])
        style = styles.get(variant, "-." if variant.startswith("recurrent") else "--")
        label = f"{DISPLAY[cell]}, {variant}"
        axes.plot(shares, color=COLOURS[cell], linestyle=style, linewidth=1.8, label=label)
    axes.set(
        yscale="log",
        ylim=(1e-12, 1e2),
        xlim=(0, len(runs[0].norms) - 1),
        xlabel="words back from the end, k",
        ylabel="gradient, as a share of the last word's",
        title="What reaches back before any training",
    )
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    finish(axes)
    return figure


def draw_memory(runs: Sequence[Run]) -> Figure:
    variants = grouped(runs, "variant")
    figure = Figure(figsize=(9, 5.4), layout="constrained")
    panels = figure.subplots(2, 3, sharex=True, sharey=True)
    distances = sorted({run.at for run in runs})
    for axes, ((variant,), found) in zip(panels.flat, variants, strict=True):
        for (cell,), of_cell in grouped(found, "cell"):
            tried = sorted({run.at for run in of_cell})
            points = {at: [run.accuracy for run in of_cell if run.at == at] for at in tried}
            draw_spread(axes, cell, points)
        axes.axhline(25, **CHANCE)
        axes.set(title=variant, xscale="log", ylim=(0, 104))
        axes.set_xticks(distances, [str(k) for k in distances])
        axes.minorticks_off()
        finish(axes)
    for axes in panels[1]:
        axes.set_xlabel("words after the symbol, k")
    for axes in panels[:, 0]:
        axes.set_ylabel("accuracy, %")
    note(panels[0, 0], "chance", 0.02, 26)
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
    return figure


def draw_clipping(runs: Sequence[Run]) -> Figure:
    """The plain RNN's curves: every seed faint, their median strong."""
    figure = Figure(figsize=(9, 5.4), layout="constrained")
    panels = figure.subplots(2, 2, sharex=True, sharey="row")
    runs = [run for run in runs if run.cell == "rnn"]
    columns = {"sgd": "SGD, learning rate 0.5", "adamw": "AdamW, learning rate 0.01"}
    for (variant,), found in grouped(runs, "variant"):
        optimizer, gradient = variant.split(", ")
        column = list(columns).index(optimizer)
        colour = "#0072B2" if gradient == "clipped" else "#E69F00"
        for row, curves in enumerate(([r.losses for r in found], [r.norms for r in found])):
            axes = panels[row, column]
            smooth = [smoothed(curve) for curve in curves] if row == 0 else curves
            for curve in smooth:
                axes.plot(curve, color=colour, linewidth=0.6, alpha=0.3)
            axes.plot(medians(smooth), color=colour, linewidth=2, label=gradient)
    for axes, title in zip(panels[0], columns.values(), strict=True):
        axes.set(title=title, ylim=(0, 3))
        axes.axhline(1.386, **CHANCE)
    note(panels[0, 1], "guessing", 0.98, 1.42, ha="right")
    panels[0, 0].set_ylabel("training loss, nats")
    panels[1, 0].set(ylabel="gradient norm before clipping", yscale="log")
    for axes in panels[1]:
        axes.axhline(1.0, **CHANCE)
        axes.set_xlabel("training step")
    note(panels[1, 1], "clipped above 1", 0.98, 1.2, ha="right")
    for axes in panels.flat:
        finish(axes)
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return figure


def draw_length(runs: Sequence[Run]) -> Figure:
    variants = grouped(runs, "variant")
    places = {"early": "both early", "apart": "far apart", "late": "both late"}
    figure = Figure(figsize=(10, 6.4), layout="constrained")
    panels = figure.subplots(len(places), len(variants), sharex=True, sharey=True)
    lengths = sorted({int(key.split()[1]) for key in runs[0].by_length})
    for column, ((variant,), found) in enumerate(variants):
        for row, place in enumerate(places):
            axes = panels[row, column]
            for (cell,), of_cell in grouped(found, "cell"):
                points = {n: [r.by_length[f"{place} {n}"] for r in of_cell] for n in lengths}
                draw_spread(axes, cell, points)
            axes.axvspan(8, 14, color="#000000", alpha=0.06, linewidth=0)
            axes.axhline(100 / 16, **CHANCE)
            axes.set(xscale="log", xlim=(7, lengths[-1] * 1.15), ylim=(0, 104))
            axes.set_xticks(lengths, [str(n) for n in lengths])
            axes.minorticks_off()
            finish(axes)
        panels[0, column].set_title(variant)
        panels[-1, column].set_xlabel("words in the utterance")
    for row, title in enumerate(places.values()):
        panels[row, 0].set_ylabel(f"{title}\naccuracy, %")
    note(panels[0, 0], "learned\nfrom", 0.06, 12)
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
    return figure


def draw_intents(runs: Sequence[Run]) -> Figure:
    figure = Figure(figsize=(9, 6.4), layout="constrained")
    (accuracy, cost), (loss, norm) = figure.subplots(2, 2)
    variants = grouped(runs, "variant")
    for row, ((_,), found) in enumerate(variants):
        for place, ((cell,), of_cell) in enumerate(grouped(found, "cell")):
            y = row + 0.22 * (place - 1)
            values = [100 * run.accuracy for run in of_cell]
            each = [1000 * run.seconds / len(run.losses) for run in of_cell]
            look: dict[str, Any] = {
                "color": COLOURS[cell],
                "marker": MARKERS[cell],
                "linestyle": "none",
            }
            accuracy.plot(values, [y] * len(values), alpha=0.35, markersize=5, **look)
            accuracy.plot([statistics.mean(values)], [y], markersize=9, **look)
            cost.barh(y, statistics.mean(each), height=0.2, color=COLOURS[cell])
    for axes in (accuracy, cost):
        axes.set_yticks(range(len(variants)), [variant for (variant,), _ in variants])
        axes.set_ylim(len(variants) - 0.5, -0.5)
    accuracy.set(xlabel="held-out accuracy, % (small: each seed; large: mean)")
    cost.set(xlabel="CPU milliseconds a training step")
    (_, product), *_ = variants
    for (cell,), of_cell in grouped(product, "cell"):
        look = {"color": COLOURS[cell], "label": DISPLAY[cell]}
        loss.plot(medians([smoothed(run.losses) for run in of_cell]), **look)
        norm.plot(medians([smoothed(run.norms) for run in of_cell]), **look)
    loss.set(xlabel="training step", ylabel="training loss, nats", ylim=(0, None))
    norm.set(xlabel="training step", ylabel="gradient norm before clipping", ylim=(0, None))
    norm.axhline(1.0, **CHANCE)
    note(norm, "clipped above 1", 0.98, 0.95, ha="right", va="top")
    for axes in (accuracy, cost, loss, norm):
        finish(axes)
    figure.legend(*loss.get_legend_handles_labels(), loc="outside upper center", ncols=3)
    return figure


def draw_spread(axes: Axes, cell: str, points: dict[int, list[float]]) -> None:
    """Means, with a bar from the worst seed to the best."""
    means = [100 * statistics.mean(values) for values in points.values()]
    below = [mean - 100 * min(v) for mean, v in zip(means, points.values(), strict=True)]
    above = [100 * max(v) - mean for mean, v in zip(means, points.values(), strict=True)]
    axes.errorbar(
        [BESIDE[cell] * at for at in points],
        means,
        yerr=[below, above],
        color=COLOURS[cell],
        marker=MARKERS[cell],
        markersize=5,
        linewidth=1.6,
        elinewidth=1,
        capsize=2,
        label=DISPLAY[cell],
    )


def note(axes: Axes, text: str, share: float, y: float, **look: str) -> None:
    """At this share of the width, and beside this value."""
    along = axes.get_yaxis_transform()
    axes.text(share, y, text, transform=along, color="#666666", fontsize=8, **look)  # type: ignore[arg-type]


def finish(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.set_axisbelow(True)


def medians(curves: Sequence[Sequence[float]]) -> list[float]:
    return [statistics.median(values) for values in zip(*curves, strict=True)]


def smoothed(curve: Sequence[float], window: int = 15) -> list[float]:
    """Each value the mean of those up to it, at most `window`."""
    return [statistics.mean(curve[max(0, end - window) : end]) for end in range(1, len(curve) + 1)]
