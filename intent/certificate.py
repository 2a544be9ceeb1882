"""What instant answers are worth: a promise, tested on utterances that the network never saw.

Learn then Test (Angelopoulos et al. 2021, arXiv:2110.01052) with fixed-sequence testing: the
thresholds are tried from strict to loose, in an order fixed beforehand, and the first that fails
ends it. So all that were passed keep the promise together, with the promised confidence.

What is tested at a threshold: in traffic with the least share in scope that is promised for, more
than the promised share of the instant answers is wrong. With more in scope it is less, as every
instant answer to an out-of-scope message is wrong. Two counts speak against it, of the wrong
answers among the instant ones in scope and of the out-of-scope utterances answered, and they are
independent of each other. How the error divides between the two is not known: for every division
both have their exact binomial tail, and Stouffer's weighted sum of the two (weighted by what
each count may vary) must be extreme for all of them. docs/decisions/0023 compares it with others.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from itertools import chain, pairwise
from statistics import NormalDist
from typing import Any, Self

import numpy as np

from intent.binomial import at_most, lower_bound
from intent.interface import Certificate, Doubt, OperatingPoint, Promise, RiskPoint

VERSION = 1
CONFIDENCE_EDGES = (
    *(n / 20 for n in range(2, 19)),
    *(0.93, 0.95, 0.97, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9995, 0.9999),
)
"""Of the bins that confidences are counted in, an edge belonging to the bin above it."""
REVIEWED = "reviewed"
BASES = ("held_out", "given", "cross_fitted", REVIEWED)
"""Kept from a network's training; given beside it; each utterance judged by a network that
was trained without it, which is not quite the one that is served; or a random sample of what
people said to the network, labelled by operators."""
DIVISIONS = 60
SET_ASIDE = 0.05
"""Of the allowed error, for not knowing which share of in-scope messages is answered."""
LEAST_TAIL, GREATEST_TAIL = 1e-300, 1 - 1e-12
COMFORT = 0.05
"""Of the allowed error: the first threshold tried is expected to pass with no more than this."""
EASE = 0.1
"""The same where it is planned how many messages to label: with less certainty, as a sample of
the traffic costs its operator minutes."""
FIRST_TRY = 0.75
"""Of the allowed error, for the first test of a sample; of what is left, the same for a test of
more of it, and so on: all together they spend no more than is allowed."""
SURELY_FEWER = 0.01
"""So rarely is a sample taken to have fewer in scope than promised though it has not."""
GROWTH_STEP = 1.2
MOST_EXAMPLES = 20_000
"""More are not asked for."""
FEWEST_SAMPLED = 50
SHARES = (0.95, 0.98, 0.99, 1.0)


Shares = tuple[float, float, float]
"""Of the in-scope utterances, those answered and those answered wrongly; of the others, those
answered."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """Counts at each of the `thresholds`, which go from strict to loose. Holds no words."""

    basis: str
    thresholds: tuple[float, ...]
    expected: tuple[Shares, ...]
    """What each was expected to do, by other utterances than are counted here."""
    floors: tuple[tuple[str, float], ...]
    """Intents that need more assurance than the threshold, and how much."""
    inside: int
    outside: int
    answered: tuple[int, ...]
    wrong: tuple[int, ...]
    let_through: tuple[int, ...]
    all_wrong: int
    """In-scope utterances given another intent, whatever the assurance."""
    intents: int
    """That the in-scope utterances belong to."""
    in_scope: tuple[int, int]
    """How many of those in and out of scope the network calls in scope."""
    seen: int = 0
    """Left out, as the network was trained on the same words."""
    contradictory: int = 0
    """Of the in-scope utterances, those that stand under several intents: one at least is wrong."""
    confidences: tuple[tuple[int, ...], ...] = ()
    """How many there were in each bin: of the utterances in scope, those that the network calls
    in scope and those that it does not, then of the others the same. None in older files."""
    tries: int = 0
    """The how-manieth test of a growing sample this is; 0 where there can be only one."""
    unclear: int = 0
    """See `Certificate`; counted in `inside` and in `outside`."""
    period: tuple[str, ...] = ()

    @property
    def utterances(self) -> int:
        return self.inside + self.outside - self.unclear

    def to_json(self) -> dict[str, Any]:
        plain: dict[str, Any] = json.loads(json.dumps({"version": VERSION, **asdict(self)}))
        if self.basis != REVIEWED:  # an older release reads what is the same as then
            del plain["tries"], plain["unclear"], plain["period"]
        return plain

    @classmethod
    def from_json(cls, value: Any) -> Self:
        """Raises ValueError for what no calibration counts."""
        if not isinstance(value, dict) or value.get("version") != VERSION:
            raise ValueError("a calibration of another version")
        fields = {name: _tuples(one) for name, one in value.items() if name != "version"}
        try:
            found = cls(**fields)
            found._check()
            hash(found)
        except TypeError as error:
            raise ValueError(f"a calibration with other parts ({error})") from error
        return found

    def _check(self) -> None:
        if any(len(one) != 3 for one in self.expected):
            raise ValueError("a calibration that expects something else")
        if any(len(one) != 2 or not isinstance(one[0], str) for one in self.floors):
            raise ValueError("a calibration with floors of no intents")
        shares = chain.from_iterable(self.expected)
        numbers = (*self.thresholds, *shares, *(floor for _, floor in self.floors))
        counts = (self.answered, self.wrong, self.let_through)
        whole = (*self.answered, *self.wrong, *self.let_through, *self.in_scope)
        whole += (self.inside, self.outside, self.all_wrong, self.intents)
        whole += (self.seen, self.contradictory, self.tries, self.unclear)
        is_period = len(self.period) in (0, 2) and all(isinstance(one, str) for one in self.period)
        if self.basis not in BASES or len(self.in_scope) != 2 or not is_period:
            raise ValueError("a calibration of no known kind")
        if any(type(one) is not int or one < 0 for one in whole):
            raise ValueError("a calibration that counts no utterances")
        if any(type(one) not in (int, float) or not 0 <= one <= 1 for one in numbers):
            raise ValueError("a calibration of no thresholds")
        if {len(self.thresholds)} != {len(self.expected), *map(len, counts)}:
            raise ValueError("a calibration with counts of other thresholds")
        if any(after >= before for before, after in pairwise(self.thresholds)):
            raise ValueError("a calibration out of order")
        if any(after < before for each in counts for before, after in pairwise(each)):
            raise ValueError("a calibration that loses answers")
        if any(n > m for n, m in zip(self.wrong, self.answered, strict=True)):
            raise ValueError("a calibration with more wrong answers than answers")
        if self.confidences and not self._is_histogram():
            raise ValueError("a calibration with confidences of other utterances")
        for count, of in (
            (max(self.answered, default=0), self.inside),
            (max(self.wrong, default=0), self.all_wrong),
            (max(self.let_through, default=0), self.outside),
            (self.all_wrong, self.inside),
            (self.in_scope[0], self.inside),
            (self.in_scope[1], self.outside),
            (self.unclear, min(self.inside, self.outside)),
        ):
            if count > of:
                raise ValueError("a calibration that counts more than there is")

    def _is_histogram(self) -> bool:
        sums = [sum(row) for row in self.confidences]
        inside, outside = self.in_scope
        return (
            {len(row) for row in self.confidences} == {len(CONFIDENCE_EDGES) + 1}
            and all(type(n) is int and n >= 0 for row in self.confidences for n in row)
            and sums == [inside, self.inside - inside, outside, self.outside - outside]
        )


@lru_cache(maxsize=64)
def certify(counted: Calibration | None, promise: Promise) -> Certificate:
    """The same counts and promise give the same certificate. None: an older file has no counts,
    and where nothing could be kept apart there are none."""
    if counted is None or not counted.inside:
        seen = counted.seen if counted else 0
        return Certificate(promise, doubt=Doubt.NOTHING_UNSEEN, seen=seen)
    points = _passed(counted, _held_to(promise, counted.tries))
    certificate = Certificate(
        promise,
        points=points,
        floors=dict(counted.floors),
        basis=counted.basis,
        inside=counted.inside,
        outside=counted.outside,
        unclear=counted.unclear,
        period=counted.period,
        seen=counted.seen,
        contradictory=counted.contradictory,
        curve=risk_coverage(counted, promise),
        augrc=augrc(counted, promise),
    )
    if counted.intents < 2:
        return replace(certificate, points=(), doubt=Doubt.ONE_INTENT)
    if counted.basis == REVIEWED and _has_fewer_in_scope(counted, promise.least_in_scope):
        return replace(certificate, points=(), doubt=Doubt.FEWER_IN_SCOPE)
    return certificate if points else _doubted(counted, certificate)


@lru_cache(maxsize=16)
def messages_needed(expected: Sequence[Shares], promise: Promise, *, tries: int = 1) -> int | None:
    """So many sampled messages, of which just the promised share is in scope, should certify one
    of the thresholds that are `expected` to do this. None: no number that anybody would label."""
    held = _held_to(promise, tries)
    messages = float(FEWEST_SAMPLED)
    while messages <= MOST_EXAMPLES:
        inside = round(messages * promise.least_in_scope)
        outside = math.ceil(messages) - inside
        for answered, wrong, let_through in expected:
            p = p_value(
                held,
                inside=inside,
                answered=round(answered * inside),
                wrong=round(wrong * inside),
                outside=outside,
                let_through=round(let_through * outside),
            )
            if p <= EASE * (1 - held.confidence):
                return math.ceil(messages)
        messages *= GROWTH_STEP
    return None


def _held_to(promise: Promise, tries: int) -> Promise:
    """With the confidence that a test of so many has to reach for all of them to keep theirs."""
    if not tries:
        return promise
    error = (1 - promise.confidence) * FIRST_TRY * (1 - FIRST_TRY) ** (tries - 1)
    return replace(promise, confidence=1 - error)


def _has_fewer_in_scope(counted: Calibration, least: float) -> bool:
    """In a sample of the traffic what is in scope is a share of it, too; the benefit of the doubt
    goes to what is unclear."""
    tail = at_most(counted.inside, counted.utterances, np.array([least]))[0]
    return bool(tail <= SURELY_FEWER)


def p_value(
    promise: Promise,
    *,
    inside: int,
    answered: int,
    wrong: int,
    outside: int,
    let_through: int,
    weighed: tuple[int, int] | None = None,
) -> float:
    """Of the hypothesis that a threshold with these counts breaks the promise.

    `weighed`: answered in scope, and out of scope; what either side weighs follows from them, and
    without them from the counts. Weights may be any that do not look at right and wrong."""
    alpha, share = promise.max_wrong_instant, promise.least_in_scope
    error = SET_ASIDE * (1 - promise.confidence)
    certainly = lower_bound(answered, inside, error=error)
    if not certainly or not share or not alpha:
        return 1.0
    if share >= 1:
        return float(at_most(wrong, answered, np.array([alpha]))[0])
    # What one out-of-scope message answered, for each in-scope one answered, adds to the share
    # that is wrong; how many of them exhaust the promise; and how many there can be.
    price = (1 - share) / share * (1 - alpha)
    exhausted, possible = alpha / price, 1 / certainly
    if not outside:
        if exhausted <= possible:
            return 1.0
        tail = float(at_most(wrong, answered, np.array([alpha - price * possible]))[0])
        return min(1.0, error + tail)
    # Closer to each other at both ends, where the tails change most.
    places = (1 - np.cos(np.linspace(0, math.pi, DIVISIONS + 1))) / 2
    divisions = min(exhausted, possible) * places
    tails_inside = at_most(wrong, answered, np.maximum(0, alpha - price * divisions))
    tails_outside = at_most(let_through, outside, np.minimum(1, divisions * certainly))
    middles = (divisions[1:] + divisions[:-1]) / 2
    # From a half on a share varies less again, but then the count outside tells the most.
    wrong_share, let_share = alpha - price * middles, np.minimum(0.5, middles * certainly)
    weighed_inside, weighed_outside = weighed or (answered, outside)
    weight_inside = np.sqrt(wrong_share * (1 - wrong_share) / weighed_inside)
    weight_outside = price / certainly * np.sqrt(let_share * (1 - let_share) / weighed_outside)
    # Between two divisions each tail is at most what it is at one of its ends.
    scores = weight_inside * _normal_scores(tails_inside[1:])
    scores += weight_outside * _normal_scores(tails_outside[:-1])
    scores /= np.hypot(weight_inside, weight_outside)
    tail = NormalDist().cdf(-float(scores.min()))
    if exhausted < possible:
        tail = max(tail, float(tails_outside[-1]))
    return min(1.0, error + tail)


def risk_coverage(counted: Calibration, promise: Promise) -> tuple[RiskPoint, ...]:
    """From strict to loose, in traffic with no more in scope than promised."""
    share = promise.least_in_scope
    curve = []
    for place, threshold in enumerate(counted.thresholds):
        answered = counted.answered[place] / counted.inside
        wrong = counted.wrong[place] / counted.inside
        let_through = _let_through(counted, place)
        covered = share * answered + (1 - share) * let_through
        failed = share * wrong + (1 - share) * let_through
        curve.append(RiskPoint(threshold, covered, failed / covered if covered else 0.0))
    return tuple(curve)


def augrc(counted: Calibration, promise: Promise) -> float:
    """Area under the generalised risk-coverage curve (Traub et al. 2024, arXiv:2407.01032): the
    mean, over all coverages, of the chance that a message is answered and wrong."""
    share = promise.least_in_scope
    covers, failures = [0.0], [0.0]
    for point in risk_coverage(counted, promise):
        covers.append(point.coverage)
        failures.append(point.coverage * point.wrong)
    covers.append(1.0)
    failures.append(share * counted.all_wrong / counted.inside + 1 - share)
    return float(np.trapezoid(failures, covers))


def _passed(counted: Calibration, promise: Promise) -> tuple[OperatingPoint, ...]:
    points = []
    curve = risk_coverage(counted, promise)
    start = _start(counted.expected, counted.inside, counted.outside, promise)
    for place in range(start, len(counted.thresholds)):
        if _p_value_at(place, counted, promise) > 1 - promise.confidence:
            break
        points.append(
            OperatingPoint(
                threshold=counted.thresholds[place],
                answered=counted.answered[place] / counted.inside,
                let_through=_let_through(counted, place),
                wrong=curve[place].wrong,
            )
        )
    return tuple(points)


def _p_value_at(place: int, counted: Calibration, promise: Promise) -> float:
    """What is unclear stands on both sides: it moves what they tell, and never what they weigh, or
    another truth about it could have a larger p-value."""
    answered, outside = counted.answered[place], counted.outside
    clear = (max(1, answered - counted.unclear), max(1, outside - counted.unclear))
    return p_value(
        promise,
        inside=counted.inside,
        answered=answered,
        wrong=counted.wrong[place],
        outside=outside,
        let_through=counted.let_through[place],
        weighed=clear,
    )


@lru_cache(maxsize=64)
def _start(expected: Sequence[Shares], inside: int, outside: int, promise: Promise) -> int:
    """The strictest threshold that should pass with ease, or the one with the best prospects.
    What is counted has no say in it, only how much there is."""
    prospects = []
    for answered, wrong, let_through in expected:
        p = p_value(
            promise,
            inside=inside,
            answered=round(answered * inside),
            wrong=math.ceil(wrong * inside),
            outside=outside,
            let_through=math.ceil(let_through * outside),
        )
        prospects.append(p)
        if p <= COMFORT * (1 - promise.confidence):
            break
    return min(range(len(prospects)), key=prospects.__getitem__)


def fewest_answers(promise: Promise) -> int:
    """With fewer in-scope answers nothing can be certified, though all of them be right."""
    if not 0 < promise.max_wrong_instant < 1 or promise.confidence >= 1:
        return 1
    return math.ceil(math.log(1 - promise.confidence) / math.log(1 - promise.max_wrong_instant))


def _let_through(counted: Calibration, place: int) -> float:
    """The worst where nothing out of scope was tried."""
    return counted.let_through[place] / counted.outside if counted.outside else 1.0


def _doubted(counted: Calibration, certificate: Certificate) -> Certificate:
    """Why there is no point, and what would make one."""
    # A sample that grows is tested once more, and more strictly.
    promise = _held_to(certificate.promise, counted.tries and counted.tries + 1)
    lower = [one for one in SHARES if one > promise.least_in_scope]
    certifiable = (one for one in lower if _passed(counted, replace(promise, least_in_scope=one)))
    share = next(certifiable, None)
    more = _growth(counted, promise)
    if share is not None and not counted.outside:
        doubt = Doubt.NO_OUT_OF_SCOPE
    else:
        doubt = Doubt.TOO_MANY_WRONG if more is None else Doubt.TOO_FEW
    missing = (None, None) if more is None else more
    return replace(
        certificate,
        doubt=doubt,
        missing_inside=missing[0],
        missing_outside=missing[1],
        certifiable_from=share,
    )


def _growth(counted: Calibration, promise: Promise) -> tuple[int, int] | None:
    """How many more utterances, in and out of scope, would do if they turn out as those at hand.
    Where none is out of scope at hand, none of those to come is taken to be answered."""
    known = counted if counted.outside else replace(counted, outside=1)  # and not answered
    start = _start(known.expected, known.inside, known.outside, promise)
    if all(one.wrong >= promise.max_wrong_instant for one in risk_coverage(known, promise)[start:]):
        return None
    growth = 1.0
    while growth * counted.inside <= max(MOST_EXAMPLES, 2 * counted.inside):
        grown = _times(counted, growth)
        for outside in [grown.outside] if counted.outside else (0, 25, 50, 100, 250, 500, 1_000):
            if _passed(replace(grown, outside=outside), promise):
                return grown.inside - counted.inside, outside - counted.outside
        growth *= GROWTH_STEP
    return None


def _times(counted: Calibration, growth: float) -> Calibration:
    def times(counts: Sequence[int]) -> tuple[int, ...]:
        return tuple(round(growth * count) for count in counts)

    return replace(
        counted,
        inside=round(growth * counted.inside),
        outside=round(growth * counted.outside),
        answered=times(counted.answered),
        wrong=times(counted.wrong),
        let_through=times(counted.let_through),
        all_wrong=round(growth * counted.all_wrong),
    )


def _normal_scores(tails: "np.typing.NDArray[np.float64]") -> "np.typing.NDArray[np.float64]":
    # A tail of just 1 has no score; the cut adds less than 1e-12 to the error.
    quantile = NormalDist().inv_cdf
    return np.array([-quantile(one) for one in np.clip(tails, LEAST_TAIL, GREATEST_TAIL).tolist()])


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
