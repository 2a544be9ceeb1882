"""Whether the traffic of late is what a certificate takes for granted."""

import random

from app.dialogue.traffic import FEWEST, Traffic
from intent.interface import Certificate, Promise

# 95 % of what is in scope, and 10 % of the rest, is called in scope.
CERTIFICATE = Certificate(Promise(least_in_scope=0.9), usual_in_scope=(0.95, 0.1))


def traffic(share_in_scope: float, messages: int) -> Traffic:
    draw, seen = random.Random(7), Traffic()
    for _ in range(messages):
        chance = 0.95 if draw.random() < share_in_scope else 0.1
        seen.note(in_scope=draw.random() < chance)
    return seen


def test_the_promised_mix_and_better_ones_are_within() -> None:
    for share in (0.9, 0.95, 1.0):
        assert traffic(share, 3_000).is_within(CERTIFICATE)


def test_much_less_in_scope_is_noticed_and_forgotten_when_it_is_over() -> None:
    seen = traffic(0.6, 3_000)
    assert not seen.is_within(CERTIFICATE)
    for _ in range(5_000):
        seen.note(in_scope=True)
    assert seen.is_within(CERTIFICATE)


def test_a_handful_of_strange_messages_proves_nothing() -> None:
    assert traffic(0.0, FEWEST - 1).is_within(CERTIFICATE)
    assert not traffic(0.0, 2 * FEWEST).is_within(CERTIFICATE)


def test_where_nothing_is_known_of_the_mix_nothing_is_outside_of_it() -> None:
    for certificate in (None, Certificate(Promise())):
        assert traffic(0.0, 3_000).is_within(certificate)
