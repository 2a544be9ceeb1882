"""What the benchmark of the hybrid found, as tables and as one picture."""

import io
import platform
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from html import escape
from statistics import mean, median
from typing import TYPE_CHECKING, Any

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks import follow_ups
from benchmarks.hybrid.figures import (
    Gate,
    Generation,
    Mix,
    Outcome,
    interval_of_ratio,
    upper_bound,
    void,
)
from benchmarks.hybrid.measuring import AT_ONCE, Live, Measured, UnderLoad
from intent.plots import DRAWING, INK, MAIN, MUTED, OTHER, PAGE_COLOURS, STANDALONE

if TYPE_CHECKING:  # matplotlib takes a second to import
    from matplotlib.axes import Axes

THOUSAND = 1_000
MOST_DRAWN = 1.25


@dataclass(frozen=True)
class Results:
    mixes: tuple[Mix, ...]
    generations: tuple[Generation, ...]
    routes: Mapping[str, Measured]
    """By name; one after another, the generator idle."""
    live: Live
    load: UnderLoad
    follow_ups: Sequence[follow_ups.Row]
    """The router's first; none where there are no dialogues."""
    spent: Mapping[str, float]
    """Seconds, by what they went to."""
    price: float
    """Of a CPU hour."""

    def by_route(self) -> dict[str, Sequence[float]]:
        """Seconds until the client had it."""
        return {
            **{name: measured.seconds for name, measured in self.routes.items()},
            f"instant turn, {AT_ONCE} generating": self.load.busy,
            "generated turn, first piece": [one.first_piece_seconds for one in self.generations],
            "generated turn": [one.cost.seconds for one in self.generations],
        }

    def price_of(self, outcome: Outcome) -> float:
        """Of a thousand messages."""
        return THOUSAND * outcome.cost.cpu_seconds / 3600 * self.price

    def to_json(self, gate: Gate) -> dict[str, Any]:
        plain = asdict(self)
        for mix, shown in zip(self.mixes, plain["mixes"], strict=True):
            shown["uncertified"] = sorted(mix.uncertified)
            for one, row in zip(mix.outcomes, shown["outcomes"], strict=True):
                row |= {"kept": one.kept, "kept_rightly": one.kept_rightly}
                row |= {"objections": mix.objections(one, gate)}
        return plain | {"void": void(self.mixes, gate)}


def show(results: Results, gate: Gate, console: Console) -> None:
    for mix in results.mixes:
        console.print(_mix_table(mix, results, gate))
        console.print(f"{mix.outcomes[0].messages:,} messages; asked back: {mix.ours.asked_back}.")
        if mix.changed:
            console.print(f"{mix.changed} instant turns came out otherwise than routed.")
        console.print()
    console.print(_route_table(results))
    if results.follow_ups:
        console.print()
        console.print(follow_ups.table(results.follow_ups))
    for line in (*_notes(results), *_headlines(results, gate)):
        console.print(line, highlight=False)


def _mix_table(mix: Mix, results: Results, gate: Gate) -> Table:
    shown = Table(box=box.MARKDOWN)
    shown.add_column(f"{mix.in_scope:.0%} in scope", no_wrap=True)
    for heading in (
        "instant", "saving", "kept", "rightly", "wrong (≤)", "end well", "AUGRC",
        "latency", "CPU-s/1,000", "price/1,000", "gate",
    ):  # fmt: skip
        shown.add_column(heading, justify="right")
    for one in mix.outcomes:
        bound = upper_bound(one.wrong, one.instant, error=gate.error)
        shown.add_row(
            one.arm,
            f"{one.instant / one.messages:.1%}",
            f"{one.saving:.2f}×",
            _with_interval(one.kept, one.interval),
            f"{one.kept_rightly:.3f}",
            f"{one.wrong_share:.1%} ({bound:.1%})",
            f"{one.well:.1%}",
            "" if one.augrc is None else f"{one.augrc:.4f}",
            _duration(one.cost.seconds),
            f"{THOUSAND * one.cost.cpu_seconds:,.1f}",
            f"{results.price_of(one):.4f}",
            _verdict(mix, one, gate),
        )
    return shown


def _verdict(mix: Mix, one: Outcome, gate: Gate) -> str:
    if one.arm in mix.uncertified:
        return "uncertified"
    return "void" if mix.objections(one, gate) else "holds"


def _route_table(results: Results) -> Table:
    shown = Table("latency by route", box=box.MARKDOWN)
    for heading in ("p50", "p95", "CPU", "n"):
        shown.add_column(heading, justify="right")
    cpu = {name: measured.cpu_seconds for name, measured in results.routes.items()}
    cpu["generated turn"] = mean(one.cost.cpu_seconds for one in results.generations)
    for name, seconds in results.by_route().items():
        spent = _duration(cpu[name]) if name in cpu else ""
        p50, p95 = map(_duration, _percentiles(seconds))
        shown.add_row(name, p50, p95, spent, f"{len(seconds):,}")
    return shown


def _notes(results: Results) -> Iterator[str]:
    generations, live = results.generations, results.live
    yield (
        f"\n{len(generations)} messages generated, {AT_ONCE} at once: "
        f"{mean(one.tokens for one in generations):.0f} tokens each, "
        f"{sum(one.is_whole for one in generations)} whole."
    )
    busy, idle = median(results.load.busy), median(results.load.idle)
    low, high = interval_of_ratio(results.load.busy, results.load.idle)
    yield (
        f"Instant turns while {AT_ONCE} clients have replies generated ("
        f"{results.load.generating:.1f} under way), against idle: {busy / idle:.2f} times "
        f"({low:.2f}–{high:.2f}), {_duration(busy)} and {_duration(idle)}, medians."
    )
    routes = ", ".join(f"{count} {route}" for route, count in live.routes.items())
    yield (
        f"{live.messages} messages really answered ({routes}), against their replay: mean latency "
        f"{_duration(live.live.seconds)} and {_duration(live.replayed.seconds)}, CPU "
        f"{_duration(live.live.cpu_seconds)} and {_duration(live.replayed.cpu_seconds)} a message."
    )
    spent = ", ".join(f"{what} {seconds:.0f}" for what, seconds in results.spent.items())
    yield (
        f"{sum(results.spent.values()):.0f} s: {spent}; {platform.machine()}, Python "
        f"{platform.python_version()}; a CPU hour at {results.price:g}. In brackets: 95 %, "
        "bootstrap; in parentheses: Clopper-Pearson's bound, one-sided."
    )


def _headlines(results: Results, gate: Gate) -> Iterator[str]:
    yield ""
    for mix in results.mixes:
        ours, alone = mix.ours, mix.outcomes[0]
        oracle = next(one for one in mix.outcomes if one.arm == "oracle")
        yield (
            f"{mix.in_scope:.0%} in scope: saving {ours.saving:.2f}× (oracle {oracle.saving:.2f}×, "
            f"{ours.kept:.2f} of its saving kept); gate: {_verdict(mix, ours, gate)}; against the "
            f"generator alone: latency {_duration(alone.cost.seconds)} → "
            f"{_duration(ours.cost.seconds)}, CPU-s of 1,000 messages "
            f"{THOUSAND * alone.cost.cpu_seconds:,.0f} → {THOUSAND * ours.cost.cpu_seconds:,.0f}, "
            f"ending well {alone.well:.1%} → {ours.well:.1%}"
        )
    if results.follow_ups:
        yield _followed(*results.follow_ups[:2])
    for reason in void(results.mixes, gate):
        yield f"VOID: {reason}"


def _followed(router: follow_ups.Row, alone: follow_ups.Row) -> str:
    low, high = router.interval
    return (
        f"follow-ups: {router.right:.1%} get the right intent ({low:.1%} to {high:.1%}), by the "
        f"message alone {alone.right:.1%}; {router.turns:,} turns after the first of "
        f"{router.dialogues:,} held-out dialogues, own history"
    )


def _with_interval(value: float, interval: tuple[float, float]) -> str:
    return f"{value:.3f} [{interval[0]:.2f}–{interval[1]:.2f}]"


def _duration(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.3g} ms"


def _percentiles(seconds: Sequence[float]) -> list[float]:
    found: list[float] = np.quantile(seconds, (0.5, 0.95)).tolist()
    return found


def picture(results: Results, gate: Gate) -> str:
    """An SVG file, on white."""
    import matplotlib
    from matplotlib.figure import Figure

    file = io.StringIO()
    description = "What each router saves of what an oracle saves, and how long each route takes"
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with matplotlib.rc_context(DRAWING | {"svg.hashsalt": description}):
        figure = Figure(figsize=(7.5, 7.5), layout="constrained")
        upper, lower = figure.subplots(2, 1, height_ratios=[4, 3])
        _draw_kept(upper, results.mixes, gate)
        _draw_routes(lower, results.by_route())
        figure.savefig(file, format="svg", transparent=True, metadata=nothing)
    svg = file.getvalue()
    svg = svg[svg.index("<svg") :]
    for colour, name in PAGE_COLOURS.items():
        svg = svg.replace(colour, STANDALONE[name])
    opening = f'<svg role="img" aria-label="{escape(description)}" style="background: #fff" '
    return re.sub(r"<svg ", opening, svg, count=1)


def _draw_kept(axes: "Axes", mixes: Sequence[Mix], gate: Gate) -> None:
    """Ours at the top. What answers everything saves far more than the oracle: cut off."""
    arms = [one.arm for one in reversed(mixes[0].outcomes) if one.arm != "generator only"]
    height = 0.8 / len(mixes)
    for number, mix in enumerate(mixes):
        for one in mix.outcomes:
            if one.arm not in arms:
                continue
            place = arms.index(one.arm) - 0.4 + (number + 0.5) * height
            verdict = _verdict(mix, one, gate)
            is_good = verdict == "holds"
            axes.barh(
                place,
                min(one.kept, MOST_DRAWN),
                0.85 * height,
                color=MAIN if is_good else "none",
                edgecolor=MAIN if is_good else MUTED,
                linewidth=0.8,
            )
            if one.interval[1] < MOST_DRAWN:
                axes.plot(one.interval, [place, place], color=INK, linewidth=1)
            said = f"{mix.in_scope:.0%}: {one.kept:.2f}, {one.wrong_share:.1%} wrong"
            axes.text(
                min(max(one.interval[1], one.kept), MOST_DRAWN) + 0.015,
                place,
                said + (", uncertified" if verdict == "uncertified" else ""),
                va="center",
                fontsize=9,
                color=INK if is_good else MUTED,
            )
    axes.set_yticks(range(len(arms)), arms)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1])
    axes.set(ylim=(len(arms) - 0.4, -0.6), xlim=(0, 2))
    axes.set(
        xlabel="share in scope: generator calls saved, of those that an oracle saves\n"
        "(filled where the gate holds)"
    )
    axes.grid(visible=False, axis="y")


def _draw_routes(axes: "Axes", routes: Mapping[str, Sequence[float]]) -> None:
    from matplotlib.ticker import StrMethodFormatter

    for place, (name, seconds) in enumerate(routes.items()):
        p50, p95 = (1000 * one for one in _percentiles(seconds))
        colour = OTHER if name.startswith("generated") else MAIN
        axes.plot([p50, p95], [place, place], color=colour, linewidth=2)
        axes.plot([p50], [place], "o", color=colour)
        axes.plot([p95], [place], "|", color=colour, markersize=9)
    axes.set_yticks(range(len(routes)), routes)
    axes.set(ylim=(len(routes) - 0.5, -0.5), xscale="log")
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.set(xlabel="milliseconds, median to 95th percentile")
    axes.grid(visible=False, axis="y")
