"""Over many streams of messages: the promise that a labelled sample certifies is kept, and what
goes wrong where labels come from elsewhere, or the difficult ones are left out."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest

from app.database import samples
from app.dialogue.review import Asked, queue
from app.dialogue.routing import Cause, Route
from intent.certificate import Calibration, certify, messages_needed
from intent.data import Example, TrainingSet
from intent.interface import Certificate, Prediction, Promise, RankedIntent
from intent.thresholds import Judged, ThresholdPlan

PROMISE = Promise(max_wrong_instant=0.1, confidence=0.9, least_in_scope=0.9)
STREAMS = 60
PERIOD = ("2026-10-01", "2026-10-31")
SERVED = 0.6
"""The threshold that was in force while people asked."""


@dataclass(frozen=True, slots=True)
class Message:
    assurance: float
    is_right: bool
    in_scope: bool
    is_unclear: bool = False

    @property
    def prediction(self) -> Prediction:
        ranking = (RankedIntent(self.intent, self.assurance),)
        return Prediction(self.intent, self.assurance, ranking, True, assurance=self.assurance)

    @property
    def intent(self) -> str:
        """That the network takes it for: one of two, by the last digits of its assurance."""
        return "ab"[int(self.assurance * 1e6) % 2]


def messages(count: int, *, surely_wrong: float = 0.0, unclear: float = 0.0) -> list[Message]:
    """Rather more than nine of ten in scope, and wrong where the network is not sure; but of some
    it is sure and wrong, and of these nobody can tell for a part what they are about."""
    random = np.random.default_rng(count)
    found = []
    for kind in random.random(count):
        if kind < surely_wrong + unclear:
            found.append(Message(0.99, False, True, bool(kind < unclear)))
        elif random.random() < 0.93:
            assurance = float(random.beta(8, 1.2))
            is_right = bool(random.random() < 1 - 0.4 * (1 - assurance))
            found.append(Message(assurance, is_right, True))
        else:
            found.append(Message(float(random.uniform(0.0, SERVED)), False, False))
    return found


def judged(labelled: Sequence[Message]) -> Judged:
    inside = [one for one in labelled if one.in_scope and not one.is_unclear]
    outside = [one for one in labelled if not one.in_scope]
    data = TrainingSet(
        tuple(Example("", one.intent if one.is_right else "another") for one in inside),
        tuple(Example("", "out_of_scope") for _ in outside),
    )
    return data, [one.prediction for one in inside], [one.prediction for one in outside]


PLAN = ThresholdPlan.of(judged(messages(1_500)))
"""Fixed in training, when the network was not yet surely wrong of anything."""


def counted(labelled: Sequence[Message], plan: ThresholdPlan = PLAN, tries: int = 1) -> Calibration:
    unclear = [one.prediction for one in labelled if one.is_unclear]
    return plan.count_sample(judged(labelled), unclear, period=PERIOD, tries=tries)


def is_broken(certificate: Certificate, traffic: Sequence[Message]) -> bool:
    """In the long run, which is known here."""
    if certificate.point is None:
        return False
    answered = [one for one in traffic if one.assurance >= certificate.point.threshold]
    wrong = sum(not one.is_right for one in answered)
    return wrong > PROMISE.max_wrong_instant * len(answered)


def recent(
    random: np.random.Generator, traffic: Sequence[Message], count: int
) -> dict[str, Message]:
    """By the ids of their turns."""
    places = random.integers(0, len(traffic), count)
    return {random.bytes(16).hex(): traffic[place] for place in places}


def drawn(asked: dict[str, Message], size: int) -> list[Message]:
    return [asked[one] for one in samples.order(list(asked))[:size]]


@pytest.mark.parametrize(("surely_wrong", "can_be_kept"), [(0.0, True), (0.05, False)])
def test_the_promise_of_a_labelled_sample_is_broken_no_more_often_than_allowed(
    surely_wrong: float, can_be_kept: bool
) -> None:
    """A sample that fails is enlarged once, as operators would. At 5 % every threshold breaks
    the promise, the best of them by next to nothing."""
    random, traffic = np.random.default_rng(7), messages(5_000, surely_wrong=surely_wrong)
    needed = messages_needed(PLAN.expected, PROMISE)
    assert needed is not None
    broken = certified = 0
    for _ in range(STREAMS):
        asked = recent(random, traffic, 2 * needed)
        certificate = certify(counted(drawn(asked, needed)), PROMISE)
        if not certificate.certified:
            certificate = certify(counted(drawn(asked, 2 * needed), tries=2), PROMISE)
        certified += certificate.certified
        broken += is_broken(certificate, traffic)
    assert broken <= 0.1 * STREAMS
    assert (certified > 0.5 * STREAMS) == can_be_kept  # it is not kept by certifying nothing


def test_labels_of_the_review_queue_would_break_it() -> None:
    """What the network is sure of and wrong never comes into the queue, which holds what is near
    the threshold."""
    near = ThresholdPlan((0.74, 0.7, 0.66, 0.62, SERVED), ((0.9, 0.001, 0.001),) * 5)
    random, traffic = np.random.default_rng(8), messages(5_000, surely_wrong=0.15)
    traffic = [replace(one, is_right=one.in_scope and one.assurance < 0.99) for one in traffic]
    by_queue = by_sample = 0
    for _ in range(5):
        asked = recent(random, traffic, 9_000)
        reviewed = [asked[one.turn_id] for one in queue(_asked(*each) for each in asked.items())]
        assert len(reviewed) > 900
        told = certify(replace(counted(reviewed, near), basis="given"), PROMISE)
        by_queue += is_broken(told, traffic)
        told = certify(counted(drawn(asked, len(reviewed)), near), PROMISE)
        by_sample += is_broken(told, traffic)
    assert (by_queue, by_sample) == (5, 0)


def test_leaving_out_what_nobody_can_tell_would_break_it() -> None:
    random, traffic = np.random.default_rng(9), messages(5_000, unclear=0.12)
    without = with_them = 0
    for _ in range(10):
        sample = drawn(recent(random, traffic, 600), 400)
        clear = [one for one in sample if not one.is_unclear]
        without += is_broken(certify(counted(clear), PROMISE), traffic)
        with_them += is_broken(certify(counted(sample), PROMISE), traffic)
    assert (without, with_them) == (10, 0)


def _asked(turn_id: str, one: Message) -> Asked:
    instant = one.assurance >= SERVED
    return Asked(
        turn_id=turn_id,
        conversation_id=turn_id,
        text=turn_id,
        seconds=0.0,
        route=Route.INSTANT if instant else Route.GENERATE,
        cause=Cause.CONFIDENT if instant else Cause.OUT_OF_SCOPE,
        intent="a",
        confidence=one.assurance,
        margin=0.5,
        assurance=one.assurance,
        threshold=SERVED,
    )
