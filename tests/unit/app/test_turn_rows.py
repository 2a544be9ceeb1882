"""Turns in the table: accepted once, in order, written by one worker at a time."""

from collections import Counter
from collections.abc import Callable
from contextlib import suppress

import pytest
from sqlalchemy import insert, update
from sqlalchemy.exc import IntegrityError

from app.database import conversations, erasure, leases, turns
from app.database.database import Database
from app.database.tables import turns as table
from app.dialogue.state import DialogueState
from app.dialogue.turn import Feedback, Reply, Turn, TurnStatus, Verdict
from app.errors import IdempotencyMismatch, LostFence, NotFound
from generator.interface import ChatMessage
from tests.unit.app.stored import (
    NO_TIME,
    accept,
    begin,
    conversation,
    expire,
    finish,
    instant,
    open_ended,
    replicas,
    timing,
    together,
)

KEY = "0123456789abcdef"


def stored(database: Database, turn: Turn) -> Turn:
    return database.read_now(lambda c: turns.get(c, turn.owner, turn.id))


def page_of(database: Database, mine: str) -> list[Turn]:
    return database.read_now(lambda c: turns.page(c, "ada", mine, limit=100, cursor=None))[0]


def adopt(database: Database, worker: str = "second", **options) -> list[Turn]:
    return database.write_now(lambda c: leases.adopt_orphans(c, worker, **options))


def grow(turn: Turn, text: str) -> Callable[..., None]:
    return lambda c: turns.grow(c, {(turn.id, turn.fence): Reply(text)})


def orphaned(database: Database, turn: Turn) -> Turn:
    """Taken up by a second worker after the first has died."""
    expire(database, table)
    assert [one.id for one in adopt(database)] == [turn.id]
    begun = database.write_now(begin(turn, worker="second"))
    assert begun is not None
    return begun


def test_an_instant_turn_is_stored_decided_and_done_in_one_transaction(
    database: Database,
) -> None:
    mine = conversation(database)
    turn = database.write_now(accept(mine, decide=instant))
    assert (turn.seq, turn.status, turn.reply) == (1, TurnStatus.DONE, Reply("Hello!"))
    assert (turn.fence, turn.model_version, turn.decision.intent) == (1, 1, "greet")
    assert (turn.timing.total_ms, turn.finished_at is not None) == (NO_TIME.total_ms, True)
    found = database.read_now(lambda c: conversations.get(c, "ada", mine))
    assert (found.turns, found.title) == (1, "hello")
    assert found.state.said == {"greet": 1}


def test_when_deciding_fails_nothing_is_stored_and_no_number_is_lost(database: Database) -> None:
    def defect(_: DialogueState) -> Verdict:
        raise ValueError("a defect in a policy")

    mine = conversation(database)
    with pytest.raises(ValueError, match="defect"):
        database.write_now(accept(mine, decide=defect))
    assert database.write_now(accept(mine)).seq == 1


def test_the_title_is_the_first_message_shortened(database: Database) -> None:
    mine = conversation(database)
    database.write_now(accept(mine, "many  words\n" * 30, decide=instant))
    database.write_now(accept(mine, "another", decide=instant))
    title = database.read_now(lambda c: conversations.get(c, "ada", mine)).title
    assert title.startswith("many words many")
    assert (len(title) <= 80, title[-1]) == (True, "…")


def test_behind_an_open_turn_the_next_one_waits_and_is_decided_later(database: Database) -> None:
    mine = conversation(database)
    first = database.write_now(accept(mine))
    second = database.write_now(accept(mine, decide=instant))
    assert (first.status, second.status) == (TurnStatus.GENERATING, TurnStatus.ACCEPTED)
    assert (second.decision, second.fence) == (None, 0)
    assert database.write_now(begin(second)) is None
    database.write_now(finish(first))
    begun = database.write_now(begin(second))
    assert (begun.status, begun.fence) == (TurnStatus.GENERATING, 1)
    assert begun.decision is not None


def test_turns_that_wait_begin_in_their_order(database: Database) -> None:
    mine = conversation(database)
    first, second, third = (database.write_now(accept(mine)) for _ in range(3))
    database.write_now(finish(first))
    assert database.write_now(begin(third)) is None
    assert database.write_now(begin(second)).fence == 1


def test_a_waiting_turn_that_turns_out_instant_is_done_when_it_begins(
    database: Database,
) -> None:
    mine = conversation(database)
    first = database.write_now(accept(mine))
    second = database.write_now(accept(mine))
    database.write_now(finish(first))
    begun = database.write_now(lambda c: turns.begin(c, second.id, instant, timing, worker="first"))
    assert (begun.status, begun.reply) == (TurnStatus.DONE, Reply("Hello!"))


def test_the_table_itself_allows_one_generating_turn_a_conversation(database: Database) -> None:
    mine = conversation(database)
    database.write_now(accept(mine))
    second = database.write_now(accept(mine))
    with pytest.raises(IntegrityError):
        database.write_now(
            lambda c: c.execute(
                update(table).where(table.c.id == second.id).values(status="generating")
            )
        )


def test_nothing_is_accepted_in_somebody_elses_conversation(database: Database) -> None:
    mine = conversation(database)
    with pytest.raises(NotFound):
        database.write_now(accept(mine, owner="bob"))
    assert database.write_now(accept(mine)).seq == 1


@pytest.mark.parametrize("late", [finish, lambda turn: lambda c: turns.fail(
    c, turn.id, turn.fence, "internal", NO_TIME)])  # fmt: skip
def test_a_worker_with_an_old_fence_ends_nothing(database: Database, late: Callable) -> None:
    first = database.write_now(accept(conversation(database)))
    second = orphaned(database, first)
    assert second.fence == first.fence + 1
    with pytest.raises(LostFence):
        database.write_now(late(first))
    assert stored(database, second) == second
    assert database.write_now(finish(second, "Mine.")).reply == Reply("Mine.")
    with pytest.raises(LostFence):  # written once
        database.write_now(late(second))
    assert stored(database, second).reply == Reply("Mine.")


def test_a_worker_with_an_old_fence_adds_nothing(database: Database) -> None:
    first = database.write_now(accept(conversation(database)))
    database.write_now(grow(first, "Old words."))
    second = orphaned(database, first)
    assert second.reply is None  # begun again, from nothing
    database.write_now(grow(second, "New"))
    database.write_now(grow(first, "Old words, and more."))
    assert stored(database, first).reply.text == "New"


def test_growing_renews_the_lease(database: Database) -> None:
    turn = database.write_now(accept(conversation(database)))
    expire(database, table)
    database.write_now(grow(turn, "Still here"))
    assert adopt(database) == []


def test_renewing_says_which_turns_are_still_ours(database: Database) -> None:
    kept, ended, taken = (database.write_now(accept(conversation(database))) for _ in range(3))
    database.write_now(finish(ended))
    database.write_now(
        lambda c: c.execute(update(table).where(table.c.id == taken.id).values(worker="other"))
    )
    expire(database, table)
    ids = [kept.id, ended.id, taken.id, "0" * 32]
    assert database.write_now(lambda c: leases.renew(c, "first", ids)) == {kept.id}
    assert [one.id for one in adopt(database)] == [taken.id]


def test_only_turns_whose_lease_is_over_are_adopted(database: Database) -> None:
    turn = database.write_now(accept(conversation(database)))
    database.write_now(accept(conversation(database), decide=instant))
    assert adopt(database) == []
    expire(database, table)
    (adopted,) = adopt(database)
    assert (adopted.id, adopted.status, adopted.seq) == (turn.id, TurnStatus.ACCEPTED, turn.seq)
    assert adopt(database, "third") == []  # it has a fresh lease


def test_a_process_that_is_alone_adopts_all_open_turns_at_start(database: Database) -> None:
    mine = conversation(database)
    turn, waiting = (database.write_now(accept(mine)) for _ in range(2))
    assert [one.id for one in adopt(database, all_open=True)] == [turn.id, waiting.id]


def test_a_worker_adopts_its_own_lost_turns_but_not_those_it_is_answering(
    database: Database,
) -> None:
    lost, answering = (database.write_now(accept(conversation(database))) for _ in range(2))
    expire(database, table)
    assert [one.id for one in adopt(database, "first", answering=[answering.id])] == [lost.id]


def test_a_turn_that_was_begun_too_often_fails_with_its_partial_text(database: Database) -> None:
    turn = orphaned(database, database.write_now(accept(conversation(database))))
    assert turn.fence == leases.MOST_STARTS
    database.write_now(grow(turn, "Half a"))
    expire(database, table)
    assert adopt(database, "third") == []
    ended = stored(database, turn)
    assert (ended.status, ended.error_code) == (TurnStatus.FAILED, "orphaned")
    assert ended.reply.text == "Half a"


def test_replicas_that_look_at_the_same_moment_adopt_each_turn_once(database: Database) -> None:
    made = {database.write_now(accept(conversation(database))).id for _ in range(10)}
    expire(database, table)
    with replicas(database.url, 3) as servers:
        adopted = together(
            [
                (server, lambda c, place=place: leases.adopt_orphans(c, f"worker-{place}"))
                for place, server in enumerate(servers)
            ]
        )
    ids = [turn.id for one in adopted for turn in one]
    assert (len(ids), set(ids)) == (len(made), made)


@pytest.mark.parametrize("waiting", [False, True])
def test_an_open_turn_is_cancelled_with_its_partial_text(database: Database, waiting: bool) -> None:
    mine = conversation(database)
    first = database.write_now(accept(mine))
    database.write_now(grow(first, "Half a"))
    turn = database.write_now(accept(mine)) if waiting else first
    ended = database.write_now(lambda c: turns.cancel(c, "ada", turn.id))
    assert ended.status is TurnStatus.CANCELLED
    assert ended.finished_at is not None
    assert ended.reply == (None if waiting else Reply("Half a"))
    with pytest.raises(LostFence):
        database.write_now(finish(turn))
    assert stored(database, turn) == ended
    assert database.write_now(begin(turn)) == ended


def test_a_final_turn_stays_as_it_is_when_cancelled(database: Database) -> None:
    turn = database.write_now(accept(conversation(database), decide=instant))
    assert database.write_now(lambda c: turns.cancel(c, "ada", turn.id)) == turn
    with pytest.raises(NotFound):
        database.write_now(lambda c: turns.cancel(c, "bob", turn.id))


def test_a_conversation_can_be_deleted_while_a_turn_is_answered(database: Database) -> None:
    mine = conversation(database)
    turn = database.write_now(accept(mine))
    database.write_now(lambda c: erasure.erase_conversation(c, "ada", mine, by=erasure.By.OWNER))
    database.write_now(grow(turn, "Nobody hears"))
    for late in (finish(turn), grow(turn, "still")):
        with suppress(LostFence):
            database.write_now(late)
    with pytest.raises(NotFound):
        stored(database, turn)
    with pytest.raises(NotFound):
        database.write_now(begin(turn))
    assert database.write_now(lambda c: leases.renew(c, "first", [turn.id])) == set()


def test_the_same_key_is_the_same_turn_and_another_payload_is_refused(
    database: Database,
) -> None:
    mine = conversation(database)
    first = database.write_now(accept(mine, key=KEY))
    again = database.write_now(accept(mine, key=KEY))
    assert (again.id, again.replayed, first.replayed) == (first.id, True, False)
    with pytest.raises(IdempotencyMismatch):
        database.write_now(accept(mine, "other words", key=KEY))
    with pytest.raises(IdempotencyMismatch):
        database.write_now(accept(conversation(database), key=KEY))
    hers = conversation(database, owner="bob")
    assert not database.write_now(accept(hers, key=KEY, owner="bob")).replayed
    assert database.write_now(accept(mine)).seq == 2  # no number was lost


def test_twenty_posts_at_once_with_one_key_are_one_turn(database: Database) -> None:
    for attempt in range(3):
        mine = conversation(database)
        operation = accept(mine, decide=instant, key=f"{KEY}{attempt}")
        with replicas(database.url) as servers:
            got = together([(servers[n % 2], operation) for n in range(20)])
        assert len({one.id for one in got}) == 1
        assert Counter(one.replayed for one in got) == {False: 1, True: 19}
        assert [one.seq for one in page_of(database, mine)] == [1]
        assert database.write_now(accept(mine)).seq == 2


def test_of_two_payloads_at_once_with_one_key_one_is_refused(database: Database) -> None:
    for attempt in range(5):
        ours = [conversation(database) for _ in range(2)]
        with replicas(database.url) as servers:
            results = together(
                [
                    (server, accept(mine, key=f"{KEY}{attempt}"))
                    for server, mine in zip(servers, ours, strict=True)
                ]
            )
        assert sorted(type(one).__name__ for one in results) == ["IdempotencyMismatch", "Turn"]


@pytest.mark.parametrize("count", [1, 3])
def test_numbers_have_no_gap_and_no_double_on_two_replicas(database: Database, count: int) -> None:
    """Also where the replicas' shared commits lock several conversations in any order."""
    ours = [conversation(database) for _ in range(count)]
    with replicas(database.url) as servers:
        posts = [
            (servers[n % 2], accept(ours[(n // 2 + n % 2) % count], f"message {n}"))
            for n in range(60)
        ]
        results = together(posts)
    assert [one for one in results if isinstance(one, BaseException)] == []
    for mine in ours:
        page = page_of(database, mine)
        assert [one.seq for one in page] == list(range(1, 60 // count + 1))
        assert Counter(one.status for one in page)[TurnStatus.GENERATING] == 1


def test_history_is_what_was_answered_before_oldest_first(database: Database) -> None:
    mine = conversation(database)
    database.write_now(accept(mine, "one", decide=instant))
    failed = database.write_now(accept(mine, "two"))
    database.write_now(lambda c: turns.fail(c, failed.id, 1, "internal", NO_TIME))
    database.write_now(accept(mine, "three", decide=instant))
    turn = database.write_now(accept(mine, "four"))
    assert database.read_now(lambda c: turns.history(c, turn)) == [
        ChatMessage("user", "one"),
        ChatMessage("assistant", "Hello!"),
        ChatMessage("user", "three"),
        ChatMessage("assistant", "Hello!"),
    ]
    short = database.read_now(lambda c: turns.history(c, turn, most_turns=1))
    assert [one.text for one in short] == ["three", "Hello!"]


def test_feedback_is_kept_replaced_and_taken_back(database: Database) -> None:
    turn = database.write_now(accept(conversation(database), decide=instant))
    for feedback in (Feedback("down", "too short"), Feedback("up"), None):
        rated = database.write_now(
            lambda c, feedback=feedback: turns.rate(c, "ada", turn.id, feedback)
        )
        assert rated.feedback == feedback
    with pytest.raises(NotFound):
        database.write_now(lambda c: turns.rate(c, "bob", turn.id, Feedback("up")))


def test_the_table_refuses_a_status_that_does_not_exist(database: Database) -> None:
    mine = conversation(database)
    row = {"id": "x", "conversation_id": mine, "owner": "ada", "seq": 1, "text": "hi"}
    with pytest.raises(IntegrityError):
        database.write_now(
            lambda c: c.execute(insert(table).values(**row, status="lost", created_at=0))
        )


def test_a_second_verdict_is_not_asked_for_when_a_turn_begins_again(database: Database) -> None:
    turn = database.write_now(accept(conversation(database)))
    expire(database, table)
    adopt(database)

    def never(_: DialogueState) -> Verdict:
        raise AssertionError("decided twice")

    begun = database.write_now(lambda c: turns.begin(c, turn.id, never, timing, worker="second"))
    assert begun.decision == open_ended(DialogueState()).decision
