"""Evaluations and explanations for people at a terminal. Imports no torch."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from intent.evaluation import Evaluation, SlotEvaluation, SlotScore
    from intent.examination import Examination, LengthScore
    from intent.explanation import Explanation, WordEffect
    from intent.interface import Certificate

SHOWN = 15
SHOWN_ERRORS = 5
SHOWN_LEAKS = 3
SHOWN_SLOTS = 10
SHOWN_NAMES = 10
BAR_CELLS = 12


def summary(evaluation: "Evaluation") -> str:
    lines = [
        f"{evaluation.accuracy:.1%} right ({evaluation.accuracy_low:.1%} to "
        f"{evaluation.accuracy_high:.1%}), {evaluation.examples:,} utterances, {evaluation.basis}"
    ]
    outside = evaluation.out_of_scope
    if outside:
        lines.append(
            f"out of scope: {1 - outside.let_through:.1%} of {outside.examples} recognised, "
            f"{1 - evaluation.in_scope_rate:.1%} false alarms"
        )
    slots = evaluation.slots
    if slots:
        lines += [
            f"slots: F1 {slots.f1:.1%} ({slots.f1_low:.1%} to {slots.f1_high:.1%})",
            f"intent and all slots right: {slots.sentence_accuracy:.1%} "
            f"({slots.sentence_accuracy_low:.1%} to {slots.sentence_accuracy_high:.1%})",
        ]
    return "\n".join(lines)


BASES = {
    "held_out": "kept from training",
    "given": "given for it",
    "reviewed": "drawn by chance from what people said, and labelled",
    "cross_fitted": "each judged by a network trained without it, not by the one that is served",
}
DOUBTS = {
    "nothing_unseen": "no in-scope utterances are at hand that the network has not seen; "
    "name some with --calibration, or count on others with certify FILE DATA",
    "one_intent": "the calibration utterances are all of one intent; add those of others",
    "no_out_of_scope": "nothing out of scope was tried; add out-of-scope utterances",
    "too_few": "too few calibration utterances",
    "too_many_wrong": "too many answers are wrong at every threshold, and more calibration "
    "utterances would not change it; allow more, or mend the examples",
    "fewer_in_scope": "fewer of the sampled messages are in scope than it is promised for; set "
    "TWOFOLD_LEAST_IN_SCOPE to what is true of yours, or teach what they ask for",
}


def certificate_summary(certificate: "Certificate") -> str:
    promise, point = certificate.promise, certificate.point
    wanted = (
        f"at most {_share(promise.max_wrong_instant)} of the instant answers wrong, with "
        f"{_share(promise.confidence)} confidence, where at least "
        f"{_share(promise.least_in_scope)} of the messages are in scope"
    )
    lines = []
    if point:
        lines += [
            f"certified: {wanted}",
            f"from an assurance of {point.threshold:.4f} on, which answers {point.answered:.1%} of "
            f"what is in scope and {point.let_through:.1%} of the rest",
        ]
    elif certificate.doubt:
        lines += [f"uncertified: {wanted}", DOUBTS[certificate.doubt]]
        if certificate.missing_inside is not None:
            lines.append(
                f"about {certificate.missing_inside:,} more in scope and "
                f"{certificate.missing_outside:,} more out of scope would do"
            )
        if certificate.certifiable_from is not None:
            share = certificate.certifiable_from
            lines.append(f"it could be promised where {share:.0%} of the messages are in scope")
    if certificate.basis:
        asked = f", asked from {' to '.join(certificate.period)}" if certificate.period else ""
        lines.append(
            f"counted on {certificate.inside:,} utterances in scope and {certificate.outside:,} "
            f"out of scope, {BASES[certificate.basis]}{asked}; AUGRC {certificate.augrc:.4f}"
        )
        if certificate.unclear:
            lines.append(
                f"{certificate.unclear:,} that nobody could judge count on both sides, as wrong"
            )
    if certificate.seen:
        lines.append(
            f"{certificate.seen:,} were left out: the network was trained on the same words, or "
            "they repeat another"
        )
    if certificate.contradictory:
        lines.append(
            f"{certificate.contradictory:,} stand under several intents, so that one answer at "
            "least counts as wrong; keep each under one"
        )
    return "\n".join(lines)


def _share(share: float) -> str:
    """A promise of 0.01 % is not one of 0.0 %."""
    return f"{100 * share:.4g}%"


@contextmanager
def progress() -> Iterator[Callable[[str, int, int], None]]:
    """A bar on standard error, if that is a terminal."""
    if not sys.stderr.isatty():
        yield lambda doing, done, of: None
        return
    columns = (
        TextColumn("{task.description:<18}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("")
        yield lambda doing, done, of: bar.update(task, description=doing, completed=done, total=of)


def show_examination(examination: "Examination") -> None:
    console = Console(highlight=False)
    evaluation = examination.evaluation
    console.print(escape(summary(evaluation)), style="bold")
    figures = (
        f"macro F1 {evaluation.macro_f1:.3f} ({evaluation.macro_f1_low:.3f} to "
        f"{evaluation.macro_f1_high:.3f}), "
        f"calibration error {evaluation.expected_calibration_error:.3f}, "
        f"called in scope {evaluation.in_scope_rate:.1%}"
    )
    if evaluation.out_of_scope:
        outside = evaluation.out_of_scope
        figures += (
            f"\nout of scope: AUROC {outside.auroc:.3f}, "
            f"false positives at 95 % {outside.false_positive_rate_at_95:.1%}"
        )
    console.print(figures)
    if examination.unknown_intents:
        names = ", ".join(examination.unknown_intents[:SHOWN_NAMES])
        more = len(examination.unknown_intents) - SHOWN_NAMES
        more_names = f" and {more} more" if more > 0 else ""
        text = f"unknown to the file, so always wrong: {names}{more_names}"
        console.print(escape(text), style="yellow")
    console.print(_intents(evaluation))
    if evaluation.confusions:
        console.print(_confusions(evaluation))
    _show_errors(console, examination)
    if evaluation.slots:
        console.print(_slots(evaluation.slots))
    console.print(_careless(examination))
    console.print(_lengths(examination))
    _show_leakage(console, examination)


def _intents(evaluation: "Evaluation") -> Table:
    table = Table("intent", title="weakest intents")
    for heading in ("examples", "precision", "recall", "F1", "95 %"):
        table.add_column(heading, justify="right")
    for score in sorted(evaluation.intents, key=lambda score: (score.f1, score.intent))[:SHOWN]:
        rates = (f"{rate:.1%}" for rate in (score.precision, score.recall, score.f1))
        between = f"{score.f1_low:.0%} to {score.f1_high:.0%}"
        table.add_row(escape(score.intent), str(score.examples), *rates, between)
    return table


def _confusions(evaluation: "Evaluation") -> Table:
    table = Table("expected", "predicted", "times", "for example", title="confusions")
    for confusion in evaluation.confusions[:SHOWN]:
        cells = confusion.expected, confusion.predicted, confusion.count, confusion.example
        table.add_row(*(escape(str(cell)) for cell in cells))
    return table


def _show_errors(console: Console, examination: "Examination") -> None:
    if not examination.errors:
        return
    console.print("wrong, and sure of it", style="italic")
    for error in examination.errors[:SHOWN_ERRORS]:
        line = Text(f"“{error.text}”  ")
        line.append(error.expected, "green").append(" but ").append(error.predicted, "red")
        console.print(line.append(f" {error.confidence:.1%}"))
        for near in error.nearest:
            console.print(
                Text(f"    {near.similarity:.2f} “{near.text}” {near.intent}", style="dim")
            )


def _slots(slots: "SlotEvaluation") -> Table:
    table = Table("slot", title="weakest slots")
    for heading in ("expected", "precision", "recall", "F1", "95 %"):
        table.add_column(heading, justify="right")

    def row(name: Text, score: "SlotEvaluation | SlotScore") -> None:
        rates = (f"{rate:.1%}" for rate in (score.precision, score.recall, score.f1))
        between = f"{score.f1_low:.0%} to {score.f1_high:.0%}"
        table.add_row(name, str(score.count), *rates, between)

    row(Text("all together", "bold"), slots)
    table.add_section()
    for score in sorted(slots.by_name, key=lambda score: (score.f1, score.name))[:SHOWN_SLOTS]:
        row(Text(score.name), score)
    return table


def _careless(examination: "Examination") -> Table:
    table = Table("change", title="careless writing")
    for heading in ("changed", "right", "points", "95 %"):
        table.add_column(heading, justify="right")
    for found in examination.robustness:
        if not found.changed:
            table.add_row(found.variation, "0", "", "", "")
            continue
        table.add_row(
            found.variation,
            str(found.changed),
            f"{found.accuracy:.1%}",
            f"{100 * found.difference:+.1f}",
            f"{100 * found.difference_low:+.1f} to {100 * found.difference_high:+.1f}",
        )
    return table


def _lengths(examination: "Examination") -> Table:
    table = Table("words", title="short and long utterances")
    for heading in ("utterances", "right", "95 %"):
        table.add_column(heading, justify="right")
    for score in examination.lengths:
        between = f"{score.accuracy_low:.0%} to {score.accuracy_high:.0%}"
        table.add_row(length_name(score), str(score.examples), f"{score.accuracy:.1%}", between)
    return table


def length_name(score: "LengthScore") -> str:
    if score.longest is None:
        return f"{score.shortest} or more"
    if score.shortest == score.longest:
        return str(score.shortest)
    return f"{score.shortest} to {score.longest}"


def _show_leakage(console: Console, examination: "Examination") -> None:
    leakage = examination.leakage
    text = (
        f"compared with {leakage.basis}: {leakage.exact} utterances are the same, "
        f"{leakage.near} nearly"
    )
    if leakage.conflicting:
        text += f"; {leakage.conflicting} of those under another intent"
    if leakage.leaks and leakage.clean_accuracy is not None:
        text += f"; {leakage.clean_accuracy:.1%} of the others are right"
    console.print(escape(text))
    for leak in leakage.leaks[:SHOWN_LEAKS]:
        pair = f"“{leak.text}” {leak.intent} / “{leak.training_text}” {leak.training_intent}"
        console.print(Text(f"    {leak.similarity:.2f} {pair}", style="dim"))


def show_explanation(explanation: "Explanation") -> None:
    console = Console(highlight=False)
    headline = Text()
    headline.append(explanation.intent, "bold green" if explanation.in_scope else "bold red")
    headline.append(f"  {explanation.confidence:.1%}")
    headline.append("  in scope" if explanation.in_scope else "  out of scope", "dim")
    console.print(headline)
    for reason in explanation.reasons:
        console.print(Text(reason))
    if explanation.words:
        console.print(_coloured(explanation))
        console.print(_words(explanation))
    if explanation.nearest:
        table = Table("alike", "training example", "intent", title="nearest")
        for near in explanation.nearest:
            table.add_row(f"{near.similarity:.2f}", escape(near.text), escape(near.intent))
        console.print(table)


def _coloured(explanation: "Explanation") -> Text:
    """The utterance, words for the intent in green, for the runner-up in red."""
    shown = Text(explanation.text)
    largest = max(abs(word.for_intent) for word in explanation.words)
    for word in explanation.words:
        if abs(word.for_intent) >= largest / 4:
            colour = "green" if word.for_intent > 0 else "red"
            weight = "bold " if abs(word.for_intent) >= largest / 2 else ""
            shown.stylize(weight + colour, word.start, word.end)
    return shown


def _words(explanation: "Explanation") -> Table:
    other = explanation.runner_up or "the others"
    title = Text(f"what each word did: ▸ for {explanation.intent}, ◂ for {other}")
    table = Table("word", title=title)
    table.add_column("◂   ▸", justify="center", min_width=2 * BAR_CELLS + 1)
    table.add_column("log-odds", justify="right")
    table.add_column("scope", justify="right")
    table.add_column("without it")
    largest = max(abs(word.for_intent) for word in explanation.words) or 1.0
    for word in explanation.words:
        scope = "" if word.for_scope is None else f"{word.for_scope:+.1f}"
        without = [] if word.intent_without == explanation.intent else [word.intent_without]
        if word.in_scope_without != explanation.in_scope:
            without.append("in scope" if word.in_scope_without else "out of scope")
        table.add_row(
            Text(word.text),
            _bar(word, largest),
            f"{word.for_intent:+.1f}",
            scope,
            Text(", ".join(without)),
        )
    return table


def _bar(word: "WordEffect", largest: float) -> Text:
    """To the right for the intent, to the left for the runner-up."""
    cells = round(BAR_CELLS * abs(word.for_intent) / largest)
    empty = " " * (BAR_CELLS - cells)
    if word.for_intent >= 0:
        return Text(" " * BAR_CELLS + "│").append("█" * cells, "green").append(empty)
    return Text(empty).append("█" * cells, "red").append("│" + " " * BAR_CELLS)
