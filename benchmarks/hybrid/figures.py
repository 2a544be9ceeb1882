"""What the benchmark of the hybrid computes of what it measured: no network, no processes."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import mean

import numpy as np
from numpy.typing import NDArray

from intent.binomial import at_most

RESAMPLES = 2_000
OURS = "ours"


@dataclass(frozen=True, slots=True)
class Message:
    text: str
    intent: str | None
    """None: out of scope."""


@dataclass(frozen=True, slots=True)
class Cost:
    seconds: float = 0.0
    """Until the client had it."""
    cpu_seconds: float = 0.0
    """Of the server and of its generator's process."""

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.seconds + other.seconds, self.cpu_seconds + other.cpu_seconds)


NOTHING = Cost()


@dataclass(frozen=True, slots=True)
class Generation:
    message: Message
    cost: Cost
    first_piece_seconds: float
    tokens: int
    is_whole: bool
    """False where it was cut off or an apology had to do."""


class Recording:
    """Each message was generated once. One that was not takes the generation of another in the
    same scope, in turn."""

    def __init__(self, generations: Iterable[Generation]) -> None:
        self.generations = tuple(generations)
        self._own = {one.message: one for one in self.generations}
        self._of_scope = {
            inside: [one for one in self.generations if (one.message.intent is None) is not inside]
            for inside in (True, False)
        }

    def replay(self, message: Message, number: int) -> Generation:
        others = self._of_scope[message.intent is not None]
        return self._own.get(message) or others[number % len(others)]


@dataclass(frozen=True, slots=True)
class Choice:
    """What a router makes of a message."""

    is_instant: bool
    intent: str | None = None
    assurance: float = 0.0
    asks_back: bool = False


@dataclass(frozen=True, slots=True)
class Arm:
    name: str
    choices: Sequence[Choice]
    instant: Cost = NOTHING
    """Of an instant answer, routing included."""
    routing: Cost = NOTHING
    """Of finding out that a message is to be generated, which comes before the generation."""
    ranks: bool = False
    """Whether assurances rank its messages."""


@dataclass(frozen=True, slots=True)
class Gate:
    """Without it every saving is to be had: one only has to answer wrongly."""

    most_wrong: float = 0.05
    """Of the instant answers; it must be shown, not only be so."""
    error: float = 0.05
    most_lost: float = 0.05
    """Of all messages, how many fewer may end well than with the generator alone."""


@dataclass(frozen=True, slots=True)
class Outcome:
    arm: str
    in_scope: float
    messages: int
    inside: int
    instant: int
    wrong: int
    """Instant answers with another intent than the message's, or to none."""
    asked_back: int
    well: float
    """Share of the messages that were rightly answered at once, or generated whole."""
    cost: Cost
    """Means a message."""
    augrc: float | None
    interval: tuple[float, float] = field(compare=False)
    """Of `kept`: 95 %, bootstrap over the messages in and out of scope."""

    @property
    def saving(self) -> float:
        """How many times fewer calls of the generator."""
        left = self.messages - self.instant
        return self.messages / left if left else math.inf

    @property
    def kept(self) -> float:
        """Generator calls avoided, of those that the oracle avoids."""
        return self.instant / self.inside

    @property
    def kept_rightly(self) -> float:
        return (self.instant - self.wrong) / self.inside

    @property
    def wrong_share(self) -> float:
        return self.wrong / self.instant if self.instant else 0.0


def outcome(
    arm: Arm, in_scope: float, messages: Sequence[Message], recording: Recording
) -> Outcome:
    """An asked-back message is charged its generation, too, and not counted as saved: nobody
    asked the people what they would have picked."""
    instant = failed = 0
    well: list[bool] = []
    costs: list[Cost] = []
    instantly: dict[bool, list[bool]] = {True: [], False: []}
    for number, (message, choice) in enumerate(zip(messages, arm.choices, strict=True)):
        instantly[message.intent is not None].append(choice.is_instant)
        if choice.is_instant:
            is_right = message.intent is not None and choice.intent == message.intent
            instant += 1
            failed += not is_right
            well.append(is_right)
            costs.append(arm.instant)
        else:
            generation = recording.replay(message, number)
            well.append(generation.is_whole)
            costs.append(arm.routing + generation.cost)
    return Outcome(
        arm=arm.name,
        in_scope=in_scope,
        messages=len(messages),
        inside=len(instantly[True]),
        instant=instant,
        wrong=failed,
        asked_back=sum(choice.asks_back for choice in arm.choices),
        well=mean(well),
        cost=Cost(mean(c.seconds for c in costs), mean(c.cpu_seconds for c in costs)),
        augrc=augrc(
            [choice.assurance for choice in arm.choices],
            [
                message.intent is None or choice.intent != message.intent
                for message, choice in zip(messages, arm.choices, strict=True)
            ],
        )
        if arm.ranks
        else None,
        interval=_interval_of_kept(instantly[True], instantly[False]),
    )


def objections(found: Outcome, generator_only: Outcome, gate: Gate) -> list[str]:
    """Why the gate does not hold; none where it does."""
    reasons = []
    bound = upper_bound(found.wrong, found.instant, error=gate.error)
    if bound > gate.most_wrong:
        reasons.append(f"up to {bound:.1%} of the instant answers may be wrong")
    lost = generator_only.well - found.well
    if lost > gate.most_lost:
        reasons.append(f"{lost:.1%} fewer messages end well")
    return reasons


def upper_bound(successes: int, trials: int, *, error: float) -> float:
    """Clopper and Pearson's, one-sided: the largest chance under which so few successes, or
    fewer, are still as likely as `error`."""
    if not trials:
        return 0.0
    low, high = successes / trials, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        if at_most(successes, trials, np.array([middle]))[0] > error:
            low = middle
        else:
            high = middle
    return high


def augrc(assurances: Sequence[float], failures: Sequence[bool]) -> float:
    """Area under the generalised risk-coverage curve (Traub et al. 2024, arXiv:2407.01032): over
    all coverages the mean chance that a message is answered instantly and wrong. 0 at best; what
    is equally assured is answered together."""
    scores = np.asarray(assurances, np.float64)
    order = np.argsort(-scores, kind="stable")
    is_last = np.append(np.diff(scores[order]) != 0, True)
    answered = np.arange(1, len(order) + 1)[is_last]
    failed = np.cumsum(np.asarray(failures)[order])[is_last]
    curve = [np.concatenate([[0], counts]) / len(order) for counts in (answered, failed)]
    return float(np.trapezoid(curve[1], curve[0]))


def _interval_of_kept(inside: Sequence[bool], outside: Sequence[bool]) -> tuple[float, float]:
    """A resample of yeses and noes with replacement counts as a binomial draw."""
    random = np.random.default_rng(0)
    counts: NDArray[np.int64] = np.zeros(RESAMPLES, np.int64)
    for part in filter(None, (inside, outside)):
        counts += random.binomial(len(part), sum(part) / len(part), RESAMPLES)
    low, high = np.quantile(counts / len(inside), (0.025, 0.975))
    return float(low), float(high)


def interval_of_ratio(above: Sequence[float], below: Sequence[float]) -> tuple[float, float]:
    """Of the medians' ratio: 95 %, bootstrap over both."""
    random = np.random.default_rng(0)
    medians = [
        np.median(random.choice(np.asarray(each), (RESAMPLES, len(each))), axis=1)
        for each in (above, below)
    ]
    low, high = np.quantile(medians[0] / medians[1], (0.025, 0.975))
    return float(low), float(high)


@dataclass(frozen=True, slots=True)
class Mix:
    """What all arms made of one stream."""

    in_scope: float
    outcomes: tuple[Outcome, ...]
    """The generator's alone first, ours under `OURS`."""
    uncertified: frozenset[str]
    """Arms for which nothing could be certified at this mix, so that a safe default counted."""
    changed: int
    """Instant turns that came out otherwise than they had been routed."""

    @property
    def ours(self) -> Outcome:
        return next(one for one in self.outcomes if one.arm == OURS)

    def objections(self, arm: Outcome, gate: Gate) -> list[str]:
        return objections(arm, self.outcomes[0], gate)


def void(mixes: Sequence[Mix], gate: Gate) -> list[str]:
    """Why the whole result is; empty where it is not."""
    certified = [mix for mix in mixes if OURS not in mix.uncertified]
    if not certified:
        return ["nothing could be certified at any mix"]
    return [
        f"{mix.in_scope:.0%} in scope: {reason}"
        for mix in certified
        for reason in mix.objections(mix.ours, gate)
    ]
