"""How many turns one replica takes on."""

import random
from contextlib import suppress
from dataclasses import replace

import pytest

from app.dialogue.turn import Turn, TurnStatus
from app.errors import Overloaded, QuotaExceeded
from app.turn_places import TurnLimits, TurnPlaces

TURN = Turn("t", "c", "ada", 1, TurnStatus.GENERATING, "hello")
WAITING = replace(TURN, status=TurnStatus.ACCEPTED)
DONE = replace(TURN, status=TurnStatus.DONE)


def of(owner: str, turn: Turn = TURN) -> Turn:
    return replace(turn, owner=owner)


def test_instant_turns_take_no_place() -> None:
    places = TurnPlaces(TurnLimits(open=1, generating=1))
    places.hold("first", TURN)
    for number in range(100):
        places.hold(number, DONE)
    assert places.open == 1


def test_when_the_generator_is_full_others_may_still_wait_behind_their_own_turns() -> None:
    places = TurnPlaces(TurnLimits(open=3, generating=1))
    places.hold("first", TURN)
    with pytest.raises(Overloaded) as refused:
        places.hold("second", TURN)
    assert refused.value.code == "generators_full"
    places.hold("third", WAITING)
    places.release("first")
    places.hold("second", TURN)


def test_an_owner_has_a_share_and_the_replica_a_bound() -> None:
    places = TurnPlaces(
        TurnLimits(open=3, open_of=lambda owner: 1 if owner.startswith("guest") else 2)
    )
    places.hold(1, of("guest:a"))
    with pytest.raises(QuotaExceeded):
        places.hold(2, of("guest:a"))
    with pytest.raises(QuotaExceeded), places.arriving("guest:a"):
        pass
    places.hold(2, of("ada"))
    places.hold(3, of("ada"))
    with pytest.raises(Overloaded) as refused:
        places.hold(4, of("bob"))
    assert not isinstance(refused.value, QuotaExceeded)
    places.release(1)
    places.hold(4, of("bob"))


def test_so_many_may_arrive_at_once() -> None:
    places = TurnPlaces(TurnLimits(arriving=1))
    with places.arriving("ada"), pytest.raises(Overloaded), places.arriving("bob"):
        pass
    with places.arriving("bob"):
        pass


def test_a_transaction_that_is_run_again_holds_one_place() -> None:
    places = TurnPlaces(TurnLimits(open=1))
    places.hold("mine", TURN)
    places.hold("mine", TURN)
    assert places.open == places.generating == 1
    places.release("mine")
    places.release("mine")
    assert places.open == places.generating == 0


def test_an_acknowledged_turn_is_answered_however_full_it_is() -> None:
    places = TurnPlaces(TurnLimits(open=1, generating=1))
    places.hold("first", TURN)
    places.keep("adopted", of("bob"))
    places.keep("adopted", of("bob"))
    assert places.open == 2
    places.keep("adopted", of("bob", DONE))
    assert places.open == 1


def test_whatever_happens_no_place_is_lost() -> None:
    draw = random.Random(4)
    places = TurnPlaces(TurnLimits(open=20, generating=10, open_of=lambda _: 5))
    for _ in range(5000):
        holder, owner = draw.randrange(40), f"owner {draw.randrange(6)}"
        turn = of(owner, draw.choice([TURN, WAITING, DONE]))
        act = draw.choice([places.hold, places.keep, lambda one, _: places.release(one)])
        with suppress(Overloaded):
            act(holder, turn)
    for holder in range(40):
        places.release(holder)
    assert (places.open, places.generating, places._of_owner) == (0, 0, {})
