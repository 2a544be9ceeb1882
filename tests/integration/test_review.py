"""The review queue: what comes into it, what a decision makes of it, and who may decide."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from app.database import intents, labels, review, tables, training_jobs, turns
from app.database.database import Database
from app.database.migration import migrate
from app.dialogue.routing import Cause, Decision, Route, RoutingPolicy
from app.dialogue.state import DialogueState
from app.dialogue.turn import Reply, Verdict
from app.errors import Conflict
from app.settings import Settings
from app.training_runner import TrainingLimits, TrainingRunner
from intent.interface import OUT_OF_SCOPE
from tests.fakes import prediction
from tests.integration.conftest import PREDICTIONS, Served, serving
from tests.integration.routes import assert_problem, table_contents
from tests.unit.app import stored

QUEUE = "/admin/review"
NEAR = {"is it for me": prediction(("greet", 0.88), ("goodbye", 0.05))}
CLARIFIED = "no more order"


@pytest.fixture
def served(settings: Settings) -> Any:
    with serving(settings, predictions=PREDICTIONS | NEAR) as running:
        yield running


def test_what_a_user_chose_when_asked_back_is_a_suggestion_of_one_click(served: Served) -> None:
    talk = served.conversation()
    asked = served.say(talk, CLARIFIED).json()
    assert [(one["reasons"], one["suggestion"]) for one in _queue(served)] == [
        (["clarified"], None)
    ]
    served.say(talk, "the second one")
    (entry,) = _queue(served)
    assert entry["turn"]["id"] == asked["id"]
    assert entry["suggestion"] == {"intent": "return_item", "title": "Return an item", "turns": 1}
    assert _examples(served, "return_item") == []  # nobody has accepted it

    body = {"turn_ids": [asked["id"], "0" * 32]}
    got = served.client.post(f"{QUEUE}/accept-suggestions", json=body, headers=served.admin)
    assert got.json() == {"accepted": 1, "skipped": 1}
    assert _examples(served, "return_item") == [(CLARIFIED, asked["id"])]
    assert _queue(served) == []


def test_a_label_makes_an_example_and_undoing_it_takes_it_back(served: Served) -> None:
    turns = [served.say(served.conversation(), text).json() for text in ("is it for me",) * 2]
    (entry,) = _queue(served)
    assert (entry["reasons"], entry["turns"], entry["conversations"]) == (["uncertain"], 2, 2)
    turn = entry["turn"]["id"]
    assert turn == turns[1]["id"]
    decided = _decide(served, turn, intent="goodbye").json()
    assert (decided["turns"], decided["example"]["turn_id"]) == (2, turn)
    turns.append(served.say(served.conversation(), "Is it for me?").json())
    assert _queue(served) == []  # also what is asked again
    told = [_decide(served, one["id"], dismiss=True) for one in turns]
    assert {assert_problem(one, 409)["code"] for one in told} == {"already_reviewed"}

    assert _undo(served, turns[0]["id"]).status_code == 204  # with any of them
    assert _examples(served, "goodbye") == []
    assert _queue(served)[0]["turns"] == 3
    assert _undo(served, turn).status_code == 204
    assert _decide(served, turn, dismiss=True).json()["example"] is None
    assert _queue(served) == []


def test_out_of_scope_can_be_said_before_it_was_taught(served: Served) -> None:
    turn = served.say(served.conversation(), "is it for me").json()["id"]
    worded = {"intent": OUT_OF_SCOPE, "text": "is this for me"}
    assert _decide(served, turn, **worded).json()["example"]["text"] == "is this for me"
    assert _examples(served, OUT_OF_SCOPE) == [("is this for me", turn)]


def test_the_queue_is_filtered_and_paged(served: Served) -> None:
    for text in ("is it for me", CLARIFIED):
        served.say(served.conversation(), text)
    bad = served.say(served.conversation(), "hello").json()["id"]
    rating = {"rating": "down", "comment": "too short"}
    served.client.put(f"/v1/turns/{bad}/feedback", json=rating, headers=served.user)
    served.say(served.conversation(), "hello")  # sure, and nobody minds
    everything = _queue(served)
    found = [reason for one in everything for reason in one["reasons"]]
    assert found == ["disliked", "uncertain", "clarified"]
    assert everything[0]["turn"]["feedback"] == rating
    pages, cursor = [], ""
    while cursor is not None:
        page = _page(served, f"?limit=1{cursor and f'&cursor={cursor}'}")
        assert page["waiting"] == 3
        pages += page["items"]
        assert len(pages) <= 3
        cursor = page["next_cursor"]
    assert pages == everything
    assert _queue(served, "?reason=disliked") == everything[:1]
    assert _queue(served, "?intent=cancel_order") == everything[2:]
    assert _queue(served, "?intent=no_such_intent&reason=frequent") == []
    for wrong in ("reason=x", "intent=", "cursor=1_2", "cursor=x_1.0_" + "0" * 32, "limit=0"):
        assert_problem(served.client.get(f"{QUEUE}?{wrong}", headers=served.admin), 422)


def test_what_cannot_be_decided_changes_nothing(served: Served) -> None:
    turn = served.say(served.conversation(), "is it for me").json()["id"]
    long = served.say(served.conversation(), "word " * 300).json()["id"]
    before = table_contents(served)
    for whose, verdict, status in (
        (turn, {"intent": "no_such_intent"}, 404),
        (turn, {}, 422),
        (turn, {"intent": "greet", "dismiss": True}, 422),
        (turn, {"text": "hi", "dismiss": True}, 422),
        (turn, {"dismiss": "yes"}, 422),
        (long, {"intent": "greet"}, 422),
        ("0" * 32, {"dismiss": True}, 404),
    ):
        assert_problem(_decide(served, whose, **verdict), status)
    assert_problem(_undo(served, "0" * 32), 404)
    assert table_contents(served) == before


def test_an_erased_turn_takes_its_labels_along(served: Served) -> None:
    talk = served.conversation()
    turn = served.say(talk, CLARIFIED).json()["id"]
    served.say(talk, "1")
    _decide(served, turn, intent="return_item")
    gone = served.client.delete(f"/v1/conversations/{talk}", headers=served.user)
    receipt = served.client.get(gone.headers["location"], headers=served.user).json()
    assert receipt["rows"] == {
        "conversations": 1,
        "turns": 2,
        "examples": 1,
        "reanswers": 0,
        "labels": 2,
        "sampled_turns": 0,
    }
    assert turn not in repr(table_contents(served))
    assert_problem(_decide(served, turn, intent="greet"), 404)


def test_of_two_who_decide_at_once_one_wins_and_the_other_is_told(database_url: str) -> None:
    is_sqlite = database_url.startswith("sqlite")
    with stored.replicas(database_url, 1 if is_sqlite else 2) as databases:
        first, other = databases[0], databases[-1]
        turn, same = _migrated(first), _turn(first)
        told = stored.together(
            [
                (first, lambda c: labels.decide(c, turn, [same], "greet", by="key:a")),
                (other, lambda c: labels.decide(c, same, [turn], "leave", by="key:b")),
            ]
        )
        assert sorted(isinstance(one, Conflict) for one in told) == [False, True]
        assert len(first.read_now(intents.training_data)) == 1
        deciders = first.read_now(lambda c: c.scalars(select(tables.labels.c.given_by)).all())
        assert len(deciders) == 2
        assert len(set(deciders)) == 1


def test_a_label_goes_with_its_intent_and_stays_when_that_is_renamed(database: Database) -> None:
    turn, other, dismissed = _migrated(database), _turn(database), _turn(database)
    database.write_now(lambda c: labels.decide(c, turn, [], "leave", by="key:a"))
    database.write_now(lambda c: labels.decide(c, dismissed, [], None, by="key:a"))
    database.write_now(lambda c: intents.change(c, "leave", new_name="go"))
    labelled = select(tables.labels.c.turn_id).order_by(tables.labels.c.given_at)
    assert database.read_now(lambda c: c.scalars(labelled).all()) == [turn, dismissed]
    database.write_now(lambda c: intents.remove(c, "go"))  # it is no label any more
    assert database.read_now(lambda c: c.scalars(labelled).all()) == [dismissed]
    assert database.write_now(lambda c: labels.decide(c, other, [turn], None, by="key:a"))[0] == 2


def test_a_choice_that_had_to_wait_is_a_suggestion_too(database: Database) -> None:
    _migrated(database)
    mine = stored.conversation(database)
    first, asked, choice, stray = (
        database.write_now(stored.accept(mine, text)) for text in ("1st", "hm", "1", "1")
    )
    database.write_now(stored.finish(first))
    for turn, decide in ((asked, _clarify), (choice, _chose), (stray, _chose)):
        database.write_now(
            lambda c, turn=turn, decide=decide: turns.begin(
                c, turn.id, decide, stored.timing, worker="first"
            )
        )
    suggested = [one for one in database.read_now(review.entries) if one.suggestion]
    assert [(one.turn_id, one.suggestion) for one in suggested] == [(asked.id, "greet")]
    given = database.read_now(lambda c: c.scalars(select(tables.labels.c.turn_id)).all())
    assert given == [asked.id]  # the stray one answers no question


def test_a_training_takes_suggestions_in_where_the_operator_has_said_so(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'twofold.db'}")
    _migrated(database)
    mine = stored.conversation(database)
    database.write_now(stored.accept(mine, "hm", decide=_clarify))
    database.write_now(stored.accept(mine, "1", decide=_chose))
    runner = TrainingRunner(database, TrainingLimits(60, 4096, 1), accept_suggestions=True)
    database.write_now(lambda c: training_jobs.create(c, max_waiting=8))
    ended = asyncio.run(runner.run_next())
    assert ended is not None  # and failed: one example is too few
    assert database.read_now(intents.training_data) == [("hm", "greet")]
    by = select(tables.labels.c.given_by).where(tables.labels.c.source == "operator")
    assert database.read_now(lambda c: c.scalars(by).all()) == ["setting"]
    database.close()


def _clarify(state: DialogueState) -> Verdict:
    close = Decision(Route.CLARIFY, Cause.CLOSE_INTENTS, "greet", 0.5, 0.8, 0.1)
    return Verdict(close, Reply("Which of them?"), state, 1)


def _chose(state: DialogueState) -> Verdict:
    return Verdict(RoutingPolicy().chosen("greet"), Reply("Hello!"), state, 1)


def _migrated(database: Database) -> str:
    database.write_now(migrate)
    for name in ("greet", "leave"):
        database.write_now(lambda c, name=name: intents.create(c, name))
    return _turn(database)


def _turn(database: Database) -> str:
    mine = stored.conversation(database)
    return str(database.write_now(stored.accept(mine, decide=stored.instant)).id)


def _page(served: Served, query: str = "") -> dict[str, Any]:
    got = served.client.get(f"{QUEUE}{query}", headers=served.admin)
    assert got.status_code == 200, got.text
    page: dict[str, Any] = got.json()
    return page


def _queue(served: Served, query: str = "") -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = _page(served, query)["items"]
    return items


def _decide(served: Served, turn: str, **verdict: object) -> Any:
    return served.client.post(f"{QUEUE}/{turn}", json=verdict, headers=served.admin)


def _undo(served: Served, turn: str) -> Any:
    return served.client.delete(f"{QUEUE}/{turn}", headers=served.admin)


def _examples(served: Served, intent: str) -> list[tuple[str, str]]:
    url = f"/admin/intents/{intent}/examples"
    items = served.client.get(url, headers=served.admin).json()["items"]
    return [(one["text"], one["turn_id"]) for one in items]
