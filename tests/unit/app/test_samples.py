"""A sample that nobody chooses from, stays what it is while it is labelled, and is used once."""

import asyncio
import random
from collections.abc import Coroutine
from typing import Any

import pytest
from sqlalchemy import select

from app.database import drift, intents, model_versions, samples
from app.database.database import Database
from app.database.erasure import By, Retention
from app.database.migration import migrate
from app.database.samples import Label, Sample
from app.database.tables import sampled_turns
from app.eraser import Eraser
from app.errors import Conflict, NotFound
from app.recalibration import Recalibrated, Recalibrator
from intent.interface import Doubt, Promise
from tests.unit.app import stored, traffic
from tests.unit.app.traffic import FAREWELL, GREETING, MURKY, STRANGE, USUAL, WRONG

SIZE = 40
BALANCED = [GREETING] * 20 + [FAREWELL] * 12 + [STRANGE] * 8
"""As many as a sample takes, so that all of them are in it."""
PROMISE = Promise(max_wrong_instant=0.2, confidence=0.9, least_in_scope=0.8)


def draw(
    database: Database,
    network: int,
    *,
    size: int = SIZE,
    most: int = 100,
    replaces: str | None = None,
) -> Any:
    return database.write_now(
        lambda c: samples.draw(c, network, size=size, most=most, by="key:a", replaces=replaces)
    )


def now(database: Database, network: int) -> Sample:
    found = database.read_now(lambda c: samples.of_network(c, network))
    assert found is not None
    return found


def turns_of(database: Database, network: int) -> list[samples.SampledTurn]:
    return database.read_now(lambda c: samples.everything(c, now(database, network)))


def label(database: Database, one: samples.SampledTurn) -> None:
    """Truly."""
    truth = {kind.text: kind.label for kind in (*USUAL, WRONG, MURKY)}[one.text]
    kind = Label.INTENT if truth else Label.CANNOT_TELL
    if one.text == STRANGE.text:
        kind = Label.OUT_OF_SCOPE
    database.write_now(lambda c: samples.label(c, one.turn_id, kind, truth, by="key:a"))


def label_all(database: Database, network: int) -> None:
    for one in turns_of(database, network):
        if one.label is None:
            label(database, one)


def recalibrator(
    database: Database, *more: traffic.Kind, promise: Promise = PROMISE
) -> Recalibrator:
    return Recalibrator(database, lambda _: traffic.network((*USUAL, *more)), promise)


def run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(work)


def recalibrate(database: Database, *more: traffic.Kind, **wanted: Any) -> Recalibrated:
    found: Recalibrated = run(recalibrator(database, *more).recalibrate(by="key:a", **wanted))
    return found


def test_every_turn_is_as_likely_to_be_drawn() -> None:
    """40 of 100 ids, 500 times: for each place in time, how often it was drawn."""
    ids = random.Random(1)
    drawn = [0] * 100
    for _ in range(500):
        turns = [ids.randbytes(16).hex() for _ in range(100)]
        for one in samples.order(turns)[:40]:
            drawn[turns.index(one)] += 1
    chi_squared = sum((count - 200) ** 2 / (500 * 0.4 * 0.6) for count in drawn)
    assert 60 < chi_squared < 145  # 99 degrees of freedom; outside in one of 500


def test_only_what_stands_alone_and_this_network_has_read_is_drawn(database: Database) -> None:
    number = traffic.teach(database)
    traffic.talk(database, number, [GREETING] * SIZE)
    for decision in ({"goes_on": 0.9}, {"cause": "chosen", "in_scope": None}, {"in_scope": None}):
        traffic.talk(database, number, [WRONG] * 30, decision=decision)
    traffic.talk(database, number + 1, [WRONG] * 30)
    assert draw(database, number).population == SIZE
    assert {one.text for one in turns_of(database, number)} == {GREETING.text}
    with pytest.raises(Conflict, match=r"about 41 messages.* 40 are there"):
        draw(database, number, size=SIZE + 1, replaces=now(database, number).id)


def test_a_sample_stays_while_messages_come_and_its_labels_when_it_is_drawn_again(
    database: Database,
) -> None:
    number = traffic.teach(database)
    traffic.talk(database, number, traffic.mixed(USUAL, 100))
    first = draw(database, number)
    before = turns_of(database, number)
    label(database, before[0])
    traffic.talk(database, number, [GREETING] * 20, at=1_790_001_000.0)
    assert [one.turn_id for one in turns_of(database, number)] == [one.turn_id for one in before]
    again = draw(database, number, replaces=first.id)
    assert (again.population, again.turns, again.tries) == (100, SIZE, 1)
    kept = [one for one in turns_of(database, number) if one.label]
    was_drawn_again = before[0].turn_id in {one.turn_id for one in turns_of(database, number)}
    assert [one.turn_id for one in kept] == [before[0].turn_id] * was_drawn_again
    with pytest.raises(Conflict, match="look again"):
        draw(database, number, replaces=first.id)


def test_what_is_erased_leaves_no_trace_and_the_next_one_takes_its_place(
    database: Database,
) -> None:
    number = traffic.teach(database)
    traffic.talk(database, number, [GREETING] * 45)
    theirs = traffic.talk(database, number, [WRONG] * 15, owner="bob")
    draw(database, number)
    label_all(database, number)
    gone = [one for one in turns_of(database, number) if one.text == WRONG.text]
    assert gone
    receipt = run(Eraser(database, Retention()).erase_conversation("bob", theirs, By.OWNER))
    assert receipt.rows["sampled_turns"] == 15
    left = now(database, number)
    assert (left.turns, left.missing) == (SIZE, len(gone))
    assert {one.text for one in turns_of(database, number)} == {GREETING.text}
    with pytest.raises(NotFound):
        label(database, gone[0])


def test_labels_of_a_deleted_intent_are_none_any_more(database: Database) -> None:
    number = traffic.teach(database)
    traffic.talk(database, number, [GREETING] * 50)
    draw(database, number)
    first, second, third, *_ = turns_of(database, number)
    label(database, first)
    for one, kind in ((second, Label.CANNOT_TELL), (third, Label.OUT_OF_SCOPE)):
        database.write_now(
            lambda c, one=one, kind=kind: samples.label(c, one.turn_id, kind, None, by="key:a")
        )
    assert now(database, number).labelled == 3
    database.write_now(lambda c: intents.change(c, "greet", new_name="salute"))
    assert turns_of(database, number)[0].intent == "salute"
    database.write_now(lambda c: intents.remove(c, "salute"))
    assert now(database, number).labelled == 2
    assert turns_of(database, number)[0].label is None


def test_only_turns_of_the_sample_are_labelled_and_once(database: Database) -> None:
    number = traffic.teach(database)
    traffic.talk(database, number, [GREETING] * 50)
    drawn = draw(database, number)
    mine = turns_of(database, number)
    everything = database.read_now(lambda c: samples.page(c, drawn, labelled=False, limit=100))
    assert everything == mine
    label(database, mine[0])
    with pytest.raises(Conflict, match="already"):
        label(database, mine[0])
    database.write_now(lambda c: samples.unlabel(c, mine[0].turn_id))
    assert now(database, number).labelled == 0
    assert turns_of(database, number) == mine
    drawn_from = select(sampled_turns.c.turn_id).order_by(sampled_turns.c.place)
    beyond = database.read_now(lambda c: c.scalars(drawn_from).all())[SIZE]
    with pytest.raises(NotFound):
        database.write_now(lambda c: samples.label(c, beyond, Label.CANNOT_TELL, None, by="key:a"))
    with pytest.raises(NotFound):
        database.write_now(
            lambda c: samples.label(c, mine[1].turn_id, Label.INTENT, "no_intent", by="key:a")
        )


def test_nothing_is_counted_until_every_turn_has_a_label(database: Database) -> None:
    with pytest.raises(Conflict, match="train and promote"):
        recalibrate(database)
    number = traffic.teach(database)
    with pytest.raises(Conflict, match="draw a sample"):
        recalibrate(database)
    traffic.talk(database, number, traffic.mixed(USUAL, 100))
    draw(database, number)
    for one in turns_of(database, number)[:-1]:
        label(database, one)
    with pytest.raises(Conflict, match=r"1 of 40 messages have no label"):
        recalibrate(database)
    assert len(database.read_now(model_versions.everything)) == 1


def test_a_labelled_sample_becomes_a_version_of_the_same_network(database: Database) -> None:
    number = traffic.teach(database)
    traffic.talk(database, number, BALANCED)
    draw(database, number)
    label_all(database, number)
    found = recalibrate(database)
    assert found.certificate.certified
    assert (found.certificate.basis, found.epoch) == ("reviewed", 2)
    assert found.certificate.inside + found.certificate.outside == SIZE
    assert found.model_version is not None
    stored_version = database.read_now(lambda c: model_versions.get(c, found.model_version or 0))
    first = database.read_now(lambda c: model_versions.get(c, number))
    assert (stored_version.network_of, stored_version.sha256) == (number, first.sha256)
    assert stored_version.evaluation == first.evaluation
    assert database.read_now(lambda c: model_versions.artifact(c, found.model_version or 0)) == (
        b"a network"
    )
    after = model_versions.counted(stored_version)
    assert after is not None
    assert (after.thresholds, after.tries) == (traffic.THRESHOLDS, 1)
    # It has served: nothing of it can be changed, tested or used again.
    turn = turns_of(database, number)[0].turn_id
    with pytest.raises(Conflict, match="draw another"):
        recalibrate(database)
    with pytest.raises(Conflict, match="draw another"):
        database.write_now(lambda c: samples.unlabel(c, turn))
    closed = now(database, number)
    with pytest.raises(Conflict, match="0 are there"):
        draw(database, number, replaces=closed.id)
    traffic.talk(database, found.model_version, [WRONG] * 45, at=1_790_009_000.0)
    fresh = draw(database, number, replaces=closed.id)
    assert (fresh.population, fresh.labelled, fresh.tries) == (45, 0, 1)
    back = database.write_now(lambda c: model_versions.roll_back(c, by="ada"))
    assert back.model_version == number


def test_labels_that_do_not_bear_it_out_change_nothing_unless_wanted(database: Database) -> None:
    number = traffic.teach(database)
    traffic.talk(database, number, [*[WRONG] * 40, *traffic.mixed(USUAL, 60)])
    draw(database, number)
    label_all(database, number)
    found = recalibrate(database, WRONG)
    assert (found.certificate.certified, found.model_version) == (False, None)
    assert found.certificate.doubt is Doubt.TOO_MANY_WRONG
    assert database.read_now(model_versions.live).model_version == number
    verdict = now(database, number).verdict
    assert verdict is not None
    assert (verdict["doubt"], verdict["more"]) == ("too_many_wrong", None)
    turn = turns_of(database, number)[0].turn_id
    with pytest.raises(Conflict, match="tested already"):
        database.write_now(lambda c: samples.unlabel(c, turn))
    with pytest.raises(Conflict, match="can be enlarged"):
        run(recalibrator(database).enlarge(replaces=now(database, number).id))
    served = recalibrate(database, WRONG, even_uncertified=True)
    assert served.model_version is not None
    assert database.read_now(model_versions.live).model_version == served.model_version


def test_a_sample_that_was_too_small_grows_and_is_tested_more_strictly(database: Database) -> None:
    within = recalibrator(database, promise=Promise(0.1, 0.9, 1.0))
    number = traffic.teach(database)
    traffic.talk(database, number, [GREETING, FAREWELL] * 50)
    small = draw(database, number, size=20)
    label_all(database, number)
    found = run(within.recalibrate(by="key:a"))
    assert found.certificate.doubt is Doubt.TOO_FEW
    before = turns_of(database, number)
    assert found.more is not None
    assert 20 + found.more <= 100
    enlarged = run(within.enlarge(replaces=small.id))
    assert (enlarged.turns, enlarged.missing, enlarged.tries) == (20 + found.more, found.more, 2)
    assert turns_of(database, number)[:20] == before
    label_all(database, number)
    grown = run(within.recalibrate(by="key:a"))
    assert grown.certificate.certified
    version = database.read_now(lambda c: model_versions.get(c, grown.model_version))
    assert (version.calibration or {})["tries"] == 2


def test_unclear_messages_count_against_it_and_unknown_intents_as_out_of_scope(
    database: Database,
) -> None:
    number = traffic.teach(database)
    traffic.talk(database, number, [*[MURKY] * 4, *BALANCED[4:]])
    draw(database, number)
    database.write_now(lambda c: intents.create(c, "new_thing"))
    for one in turns_of(database, number):
        if one.text == STRANGE.text:
            database.write_now(
                lambda c, one=one: samples.label(
                    c, one.turn_id, Label.INTENT, "new_thing", by="key:a"
                )
            )
        else:
            label(database, one)
    found = recalibrate(database, MURKY)
    strange = sum(one.text == STRANGE.text for one in turns_of(database, number))
    assert (found.certificate.unclear, found.unknown) == (4, strange)
    assert found.certificate.inside == 40 - strange
    assert found.certificate.outside == strange + 4


def test_of_two_who_act_at_once_one_wins_and_the_other_is_told(database_url: str) -> None:
    with stored.replicas(database_url, 1 if database_url.startswith("sqlite") else 2) as both:
        first, other = both[0], both[-1]
        first.write_now(migrate)
        number = traffic.teach(first)
        traffic.talk(first, number, BALANCED)
        drawing = [
            (
                one,
                lambda c: samples.draw(c, number, size=SIZE, most=100, by="key:a", replaces=None),
            )
            for one in (first, other)
        ]
        _one_is_told(stored.together(drawing))
        turn = turns_of(first, number)[0]
        labelling = [
            (
                one,
                lambda c, by=by: samples.label(c, turn.turn_id, Label.INTENT, "greet", by=by),
            )
            for one, by in ((first, "key:a"), (other, "key:b"))
        ]
        _one_is_told(stored.together(labelling))
        first.write_now(lambda c: samples.unlabel(c, turn.turn_id))
        label_all(first, number)

        async def twice() -> list[Any]:
            return await asyncio.gather(
                *(recalibrator(one).recalibrate(by="key:a") for one in (first, other)),
                return_exceptions=True,
            )

        _one_is_told(run(twice()))
        assert len(first.read_now(model_versions.everything)) == 2
        assert first.read_now(model_versions.live).epoch == 2


def _one_is_told(outcomes: list[Any]) -> None:
    assert sorted(isinstance(one, Conflict) for one in outcomes) == [False, True], outcomes


def test_a_label_that_changes_while_it_is_counted_stops_it(database: Database) -> None:
    number = traffic.teach(database)
    traffic.talk(database, number, traffic.mixed(USUAL, 100))
    draw(database, number)
    label_all(database, number)
    turn = turns_of(database, number)[0].turn_id

    def load(_: bytes) -> Any:
        # As if another operator took a label back at this very moment.
        database.write_now(lambda c: samples.unlabel(c, turn))
        return traffic.network(USUAL)

    with pytest.raises(Conflict, match="look again"):
        run(Recalibrator(database, load, PROMISE).recalibrate(by="key:a"))
    assert database.read_now(model_versions.live).model_version == number
    assert len(database.read_now(model_versions.everything)) == 1


def test_drift_compares_with_the_sample_from_then_on(database: Database) -> None:
    """The version before would be called drifted: of what it was calibrated on, less was sure."""
    number = traffic.teach(database)
    said = traffic.mixed(USUAL, 300)
    traffic.talk(database, number, said)
    draw(database, number, size=300, most=300)
    label_all(database, number)
    served = recalibrate(database)
    assert served.certificate.certified
    assert served.model_version is not None
    assert database.read_now(lambda c: drift.newest(c, served.model_version or 0)) is None
    traffic.talk(database, served.model_version, traffic.mixed(USUAL, 400, seed=1))
    look = database.write_now(lambda c: drift.look(c, PROMISE))
    assert look is not None
    assert (look.model_version, look.messages, look.moved) == (served.model_version, 400, ())
    assert look.found is not None
    traffic.talk(database, served.model_version, [WRONG] * 700, at=1_790_009_000.0)
    look = database.write_now(lambda c: drift.look(c, PROMISE))
    assert look is not None
    assert "confidence" in look.moved
