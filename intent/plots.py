"""The plots of an evaluation report, as SVG in the colours of the page around them."""

import io
import re
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from html import escape
from typing import TYPE_CHECKING, Any

from intent.calibration import ReliabilityBin
from intent.evaluation import wilson_interval
from intent.examination import Examination, LengthScore, ScopePoint
from intent.interface import Certificate
from intent.robustness import Robustness

if TYPE_CHECKING:  # matplotlib takes a second to import
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Drawn in colours that nobody would choose, which become the page's own, light or dark.
INK, MUTED, GRID, MAIN, OTHER = "#010101", "#020202", "#030303", "#040404", "#050505"
PAGE_COLOURS = {INK: "ink", MUTED: "muted", GRID: "grid", MAIN: "main", OTHER: "other"}
WIDTH_INCHES = 5.0  # so that letters of 11 points can be read at the width of a phone
DRAWING: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.size": 11,
    "font.family": "DejaVu Sans",
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
}


def plots(examination: Examination) -> dict[str, str]:
    """SVG elements by name. `roc` and `thresholds` are there where something out of scope was
    tried."""
    bins, curve = examination.evaluation.reliability, examination.scope_curve
    drawn = {
        "reliability": _svg(
            "How often predictions of each confidence are right",
            partial(_draw_reliability, bins=bins),
            height_inches=4.6,
        ),
        "robustness": _svg(
            "Accuracy lost or gained by each change",
            partial(_draw_robustness, measured=examination.robustness),
            height_inches=2.6,
        ),
        "lengths": _svg(
            "Accuracy by number of words",
            partial(_draw_lengths, scores=examination.lengths),
            height_inches=3.2,
        ),
    }
    if curve:
        drawn["roc"] = _svg(
            "In-scope against out-of-scope utterances let through",
            partial(_draw_roc, curve=curve),
            height_inches=4.2,
        )
        drawn["thresholds"] = _svg(
            "What another threshold would do",
            partial(_draw_thresholds, curve=curve),
            height_inches=4.2,
        )
    return drawn


STANDALONE = {
    "ink": "#1c2320",
    "muted": "#5c6661",
    "grid": "#dde2df",
    "main": "#1f6f54",
    "other": "#b26a00",
}


def risk_coverage_picture(certificate: Certificate) -> str:
    """A file of its own, on white."""
    svg = _svg(
        "How many instant answers are wrong, by how many messages are answered instantly",
        partial(_draw_risk_coverage, certificate=certificate),
        height_inches=3.8,
    )
    for name, colour in STANDALONE.items():
        svg = svg.replace(f"var(--{name})", colour)
    return svg.replace(
        "<svg ", '<svg xmlns="http://www.w3.org/2000/svg" style="background: #fff" ', 1
    )


def own_threshold(curve: Sequence[ScopePoint]) -> ScopePoint | None:
    return next((point for point in curve if point.threshold == 0), None)


def _svg(description: str, draw: Callable[["Figure"], None], *, height_inches: float) -> str:
    import matplotlib
    from matplotlib.figure import Figure

    file = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    # The salt makes ids the same in every run, and others in every figure of a page.
    with matplotlib.rc_context(DRAWING | {"svg.hashsalt": description}):
        figure = Figure(figsize=(WIDTH_INCHES, height_inches), layout="constrained")
        draw(figure)
        figure.savefig(file, format="svg", transparent=True, metadata=nothing)
    svg = file.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<g id="[^"]*">', "<g>", svg)  # equal in every figure
    for colour, name in PAGE_COLOURS.items():
        svg = svg.replace(colour, f"var(--{name})")
    opening = rf'<svg role="img" aria-label="{escape(description)}" \1>'
    return re.sub(r'<svg [^>]*?(viewBox="[^"]*")[^>]*>', opening, svg, count=1)


def _draw_reliability(figure: "Figure", bins: Sequence[ReliabilityBin]) -> None:
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    upper.plot([0, 1], [0, 1], color=MUTED, linestyle="--", linewidth=1)
    right = [round(found.accuracy * found.count) for found in bins]
    _plot_intervals(
        upper,
        [found.confidence for found in bins],
        [found.accuracy for found in bins],
        [wilson_interval(r, b.count) for r, b in zip(right, bins, strict=True)],
    )
    upper.set(ylabel="share right", xlim=(-0.02, 1.02), ylim=(-0.03, 1.03))
    lower.bar(
        [found.lower for found in bins],
        [found.count for found in bins],
        width=[0.94 * (found.upper - found.lower) for found in bins],
        align="edge",
        color=MAIN,
    )
    lower.set(xlabel="confidence", ylabel="utterances")
    _in_percent(upper.yaxis, lower.xaxis)


def _draw_robustness(figure: "Figure", measured: Sequence[Robustness]) -> None:
    axes = figure.subplots()
    places = range(len(measured))
    axes.axvline(0, color=MUTED, linewidth=1)
    axes.errorbar(
        [100 * found.difference for found in measured],
        places,
        xerr=_reaches(
            [100 * found.difference for found in measured],
            [(100 * found.difference_low, 100 * found.difference_high) for found in measured],
        ),
        fmt="o",
        color=MAIN,
        capsize=3,
    )
    axes.set_yticks(places, [found.variation for found in measured])
    axes.set(xlabel="difference in accuracy, points", ylim=(len(measured) - 0.4, -0.6))
    axes.grid(visible=False, axis="y")
    _show_at_least(axes, 1.0)


def _draw_lengths(figure: "Figure", scores: Sequence[LengthScore]) -> None:
    axes = figure.subplots()
    _plot_intervals(
        axes,
        range(len(scores)),
        [score.accuracy for score in scores],
        [(score.accuracy_low, score.accuracy_high) for score in scores],
    )
    labels = [f"{_length_name(score)}\nn={score.examples}" for score in scores]
    axes.set_xticks(range(len(scores)), labels, fontsize=9)
    lowest = min(score.accuracy_low for score in scores)
    axes.set(
        xlabel="words (n: utterances)",
        ylabel="share right",
        ylim=(max(0, lowest - 0.05), 1.01),
        xlim=(-0.6, len(scores) - 0.4),
    )
    axes.grid(visible=False, axis="x")
    _in_percent(axes.yaxis)


def _length_name(score: LengthScore) -> str:
    if score.longest is None:
        return f"{score.shortest}+"
    if score.shortest == score.longest:
        return str(score.shortest)
    return f"{score.shortest}–{score.longest}"


def _draw_roc(figure: "Figure", curve: Sequence[ScopePoint]) -> None:
    axes = figure.subplots()
    falsely = [1 - point.out_of_scope_recall for point in curve] + [0.0]
    rightly = [point.in_scope_rate for point in curve] + [0.0]
    axes.plot([0, 1], [0, 1], color=MUTED, linestyle="--", linewidth=1)
    axes.text(0.55, 0.48, "no better than chance", color=MUTED, rotation=40, ha="center")
    axes.plot(falsely, rightly, color=MAIN, linewidth=2)
    own = own_threshold(curve)
    if own:
        x, y = 1 - own.out_of_scope_recall, own.in_scope_rate
        axes.plot([x], [y], "o", color=OTHER, markersize=8)
        axes.annotate(
            "this file's threshold",
            (x, y),
            xytext=(min(x + 0.06, 0.55), max(0.1, y - 0.14)),
            color=OTHER,
            arrowprops={"arrowstyle": "-", "color": OTHER},
        )
    axes.set(
        xlabel="out-of-scope utterances let through",
        ylabel="in-scope utterances let through",
        xlim=(-0.02, 1.02),
        ylim=(-0.02, 1.02),
    )
    _in_percent(axes.xaxis, axes.yaxis)


def _draw_thresholds(figure: "Figure", curve: Sequence[ScopePoint]) -> None:
    axes = figure.subplots()
    thresholds = [point.threshold for point in curve]
    axes.plot(
        thresholds,
        [point.in_scope_accuracy for point in curve],
        color=MAIN,
        linewidth=2,
        label="in scope: let through and right",
    )
    axes.plot(
        thresholds,
        [point.out_of_scope_recall for point in curve],
        color=OTHER,
        linewidth=2,
        linestyle=(0, (5, 1.5)),
        label="out of scope: recognised",
    )
    axes.axvline(0, color=INK, linewidth=1)
    axes.annotate("this file", (0, 0.02), xytext=(4, 0), textcoords="offset points", color=INK)
    axes.set(xlabel="threshold, from this file's", ylabel="share", ylim=(-0.02, 1.02))
    axes.set_xlim(*_telling_scores(curve))
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), fontsize=10)
    _in_percent(axes.yaxis)


def _draw_risk_coverage(figure: "Figure", certificate: Certificate) -> None:
    axes = figure.subplots()
    curve, promised = certificate.curve, certificate.promise.max_wrong_instant
    axes.plot(
        [point.coverage for point in curve],
        [point.wrong for point in curve],
        color=MAIN,
        linewidth=2,
    )
    axes.axhline(promised, color=MUTED, linestyle="--", linewidth=1)
    axes.annotate("promised", (0, promised), xytext=(2, 4), textcoords="offset points", color=MUTED)
    point = certificate.point
    own = next((one for one in curve if point and one.threshold == point.threshold), None)
    if own:
        axes.plot([own.coverage], [own.wrong], "o", color=OTHER, markersize=8)
        axes.annotate(
            "certified",
            (own.coverage, own.wrong),
            xytext=(-8, 10),
            textcoords="offset points",
            ha="right",
            color=OTHER,
        )
    highest = max([2 * promised, *(one.wrong for one in curve if one.coverage > 0.05)])
    axes.set(
        xlabel="messages answered instantly",
        ylabel="of these, wrong",
        xlim=(0, 1.01),
        ylim=(0, min(1.0, 1.05 * highest)),
    )
    _in_percent(axes.xaxis, axes.yaxis)


def _telling_scores(curve: Sequence[ScopePoint]) -> tuple[float, float]:
    """Without the scores of utterances that a rule calls out of scope, which lie far below."""
    highest = max(0.5, *(point.threshold for point in curve))
    usual = [point.threshold for point in curve if point.in_scope_rate <= 0.95]
    spread = max(0.5, highest - min(usual, default=0.0))
    lowest = max(min(point.threshold for point in curve), highest - 1.6 * spread)
    return min(lowest, -0.5), highest


def _plot_intervals(
    axes: "Axes",
    places: Iterable[float],
    shares: Sequence[float],
    intervals: Sequence[tuple[float, float]],
) -> None:
    axes.errorbar(
        list(places), shares, yerr=_reaches(shares, intervals), fmt="o", color=MAIN, capsize=3
    )


def _reaches(
    values: Sequence[float], intervals: Sequence[tuple[float, float]]
) -> list[list[float]]:
    pairs = list(zip(values, intervals, strict=True))
    return [
        [max(0.0, value - low) for value, (low, _) in pairs],
        [max(0.0, high - value) for value, (_, high) in pairs],
    ]


def _in_percent(*sides: "object") -> None:
    from matplotlib.axis import Axis
    from matplotlib.ticker import PercentFormatter

    for side in sides:
        assert isinstance(side, Axis)
        side.set_major_formatter(PercentFormatter(1, decimals=0))


def _show_at_least(axes: "Axes", reach: float) -> None:
    """So that next to nothing does not look like much."""
    low, high = axes.get_xlim()
    axes.set_xlim(min(low, -reach), max(high, reach))
