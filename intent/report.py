"""An examination as one HTML page that needs nothing besides itself. Imports no torch."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup

from intent.examination import Examination
from intent.plots import own_threshold, plots

SHOWN_SCORES = 15
MOST_SCORES = 500
"""More would make the page heavy; the JSON has them all."""


def render(examination: Examination, *, title: str) -> str:
    """The same examination gives the same page, byte for byte."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": percent, "points": points}
    evaluation = examination.evaluation
    weakest = sorted(evaluation.intents, key=lambda score: (score.f1, score.intent))
    slots = evaluation.slots.by_name if evaluation.slots else ()
    weakest_slots = sorted(slots, key=lambda score: (score.f1, score.name))
    return environment.get_template("report.html").render(
        title=title,
        examination=examination,
        evaluation=evaluation,
        typo=examination.robustness[0],
        weakest_intents=weakest,
        weakest_slots=weakest_slots,
        shown_scores=SHOWN_SCORES,
        most_scores=MOST_SCORES,
        own_threshold=own_threshold(examination.scope_curve),
        plots={name: Markup(svg) for name, svg in plots(examination).items()},  # noqa: S704
    )


def percent(share: float, digits: int = 1) -> str:
    return f"{100 * share:.{digits}f} %"


def points(difference: float) -> str:
    """In hundredths; a difference that rounds to nothing has no sign."""
    shown = f"{100 * difference:+.1f}"
    return "0.0" if shown in {"+0.0", "-0.0"} else shown.replace("-", "−")
