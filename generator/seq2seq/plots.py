"""The plots of a training report, as SVG in the colours of the page around them."""

import io
import re
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from html import escape
from typing import TYPE_CHECKING, Any

from generator.seq2seq.evaluation import AttentionPicture

if TYPE_CHECKING:  # matplotlib takes a second to import, and torch several
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from generator.seq2seq.training import Epoch

# Drawn in colours that nobody would choose, which become the page's own, light or dark.
INK, MUTED, GRID, MAIN, OTHER = "#010101", "#020202", "#030303", "#040404", "#050505"
PAGE_COLOURS = {INK: "ink", MUTED: "muted", GRID: "grid", MAIN: "main", OTHER: "other"}
WIDTH_INCHES = 5.0  # so that letters of 11 points can be read at the width of a phone
FAINTEST = 0.02
"""Weaker attention is not drawn."""
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


def plots(epochs: "Sequence[Epoch]", picture: AttentionPicture) -> dict[str, str]:
    """SVG elements by name."""
    return {
        "loss": _svg(
            "Loss by epoch, in training and validation",
            partial(_draw_loss, epochs=epochs),
            height_inches=3.6,
        ),
        "gradients": _svg(
            "Gradient norm by epoch, and how often a person's word was the input",
            partial(_draw_gradients, epochs=epochs),
            height_inches=4.2,
        ),
        "attention": _svg(
            "Which words of the conversation each word of the reply looked at",
            partial(_draw_attention, picture=picture),
            height_inches=1.6 + 0.24 * len(picture.source),
        ),
    }


def _svg(description: str, draw: Callable[["Figure"], None], *, height_inches: float) -> str:
    import matplotlib
    from matplotlib.figure import Figure

    file = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    # The salt makes ids the same in every run, and others in every figure of a page.
    with (
        matplotlib.rc_context(DRAWING | {"svg.hashsalt": description}),
        warnings.catch_warnings(),
    ):
        # Its own font measures the words; the page's draws them, and may well have the glyph.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
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


def _draw_loss(figure: "Figure", epochs: "Sequence[Epoch]") -> None:
    axes = figure.subplots()
    numbers = [epoch.number for epoch in epochs]
    trained = [epoch.train_loss for epoch in epochs]
    checked = [epoch.valid_loss for epoch in epochs]
    axes.plot(numbers, trained, "o-", color=MUTED, markersize=4, label="training")
    axes.plot(numbers, checked, "o-", color=MAIN, markersize=4, label="validation")
    best = checked.index(min(checked))
    axes.plot([numbers[best]], [checked[best]], "o", color=OTHER, markersize=8, label="kept")
    axes.set(ylabel="nats per token")
    axes.legend()
    _whole_epochs(axes)


def _draw_gradients(figure: "Figure", epochs: "Sequence[Epoch]") -> None:
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 2])
    numbers = [epoch.number for epoch in epochs]
    norms = [epoch.gradient_norm for epoch in epochs]
    upper.plot(numbers, norms, "o-", color=MAIN, markersize=4)
    upper.set(ylabel="gradient norm", ylim=(0, None))
    shares = [epoch.forced for epoch in epochs]
    lower.plot(numbers, shares, "o-", color=MAIN, markersize=4)
    lower.set(ylabel="forced", ylim=(0, 1.05))
    _whole_epochs(lower)


def _whole_epochs(axes: "Axes") -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set(xlabel="epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _draw_attention(figure: "Figure", picture: AttentionPicture) -> None:
    from matplotlib.patches import Rectangle

    axes = figure.subplots()
    for column, weights in enumerate(picture.weights):
        for row, weight in enumerate(weights):
            if weight >= FAINTEST:
                # Squares, as an image would be a picture of fixed colours.
                square = Rectangle(
                    (column - 0.5, row - 0.5), 1, 1, color=MAIN, alpha=float(weight), linewidth=0
                )
                axes.add_patch(square)
    across, down = (list(map(_plain, words)) for words in (picture.reply, picture.source))
    axes.set_xticks(range(len(across)), across, rotation=90, fontsize=9)
    axes.set_yticks(range(len(down)), down, fontsize=9)
    axes.set(xlim=(-0.5, len(across) - 0.5), ylim=(len(down) - 0.5, -0.5))
    axes.set(xlabel="reply", ylabel="conversation")
    axes.grid(visible=False)


def _plain(word: str) -> str:
    """matplotlib reads formulas between dollars, and draws no control characters."""
    shown = "".join(one if one.isprintable() else "·" for one in word)
    return shown[:24].replace("$", r"\$")
