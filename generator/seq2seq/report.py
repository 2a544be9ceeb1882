"""A training as one HTML page that needs nothing besides itself. Imports no torch."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup

from generator.seq2seq.evaluation import AttentionPicture, Evaluation
from generator.seq2seq.plots import plots

if TYPE_CHECKING:
    from generator.seq2seq.training import Epoch


def render(
    evaluation: Evaluation,
    epochs: "Sequence[Epoch]",
    picture: AttentionPicture,
    *,
    title: str,
    conversations: tuple[int, int, int],
) -> str:
    """`conversations`: how many were for training, validation and test. The same training gives
    the same page, but for speeds."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    drawn = plots(epochs, picture)
    return environment.get_template("report.html").render(
        title=title,
        evaluation=evaluation,
        epochs=epochs,
        kept=min(epochs, key=lambda epoch: epoch.valid_loss),
        conversations=conversations,
        plots={name: Markup(svg) for name, svg in drawn.items()},  # noqa: S704
    )
