"""Turns in the table: answered again on request, handed over, and ended while they wait."""

from collections.abc import Callable

import pytest
from sqlalchemy import select, text, update

from app.database import accepting, leases, turns
from app.database.accepting import NewTurn
from app.database.database import Database
from app.database.tables import now
from app.database.tables import turns as table
from app.dialogue.turn import Reply, Turn, TurnStatus
from app.errors import Conflict, LostFence, NotFound
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


def stored(database: Database, turn: Turn) -> Turn:
    return database.read_now(lambda c: turns.get(c, turn.owner, turn.id))


def fail(turn: Turn) -> Callable[..., Turn]:
    return lambda c: turns.fail(c, turn.id, turn.fence, "generator_timeout", NO_TIME)


def cancel(turn: Turn) -> Callable[..., Turn]:
    return lambda c: turns.cancel(c, "ada", turn.id)


def retry(turn: Turn, *, owner: str = "ada", worker: str = "first") -> Callable:
    return lambda c: turns.retry(c, owner, turn.id, worker)


def failed(database: Database, mine: str) -> Turn:
    turn = database.write_now(accept(mine))
    database.write_now(lambda c: turns.grow(c, {(turn.id, turn.fence): Reply("Half a")}))
    return database.write_now(fail(turn))


@pytest.mark.parametrize("end", [fail, cancel])
def test_a_failed_or_cancelled_turn_is_answered_again_from_nothing(
    database: Database, end: Callable
) -> None:
    mine = conversation(database)
    first = database.write_now(accept(mine))
    database.write_now(lambda c: turns.grow(c, {(first.id, 1): Reply("Half a")}))
    database.write_now(end(first))
    again, begun = database.write_now(retry(first, worker="second"))
    assert begun
    assert (again.status, again.seq, again.reply, again.error_code, again.finished_at) == (
        (TurnStatus.ACCEPTED, first.seq, None, None, None)
    )
    second = database.write_now(begin(again, worker="second"))
    assert (second.status, second.fence) == (TurnStatus.GENERATING, first.fence + 1)
    with pytest.raises(LostFence):
        database.write_now(finish(first, "Too late."))
    assert database.write_now(finish(second, "Mine.")).reply == Reply("Mine.")


def test_a_turn_cancelled_while_it_waited_is_decided_when_it_is_retried(
    database: Database,
) -> None:
    mine = conversation(database)
    first = database.write_now(accept(mine))
    waiting = database.write_now(accept(mine))
    database.write_now(cancel(waiting))
    database.write_now(finish(first))
    assert database.write_now(retry(waiting))[1]
    assert database.write_now(begin(waiting)).decision is not None


def test_only_the_newest_turn_is_answered_again(database: Database) -> None:
    mine = conversation(database)
    first = failed(database, mine)
    newer = database.write_now(accept(mine, decide=instant))
    for turn, code in ((first, "not_the_newest_turn"), (newer, "turn_is_answered")):
        with pytest.raises(Conflict) as refused:
            database.write_now(retry(turn))
        assert refused.value.code == code
    assert stored(database, first) == first
    assert stored(database, newer) == newer


def test_nobody_else_can_retry_a_turn(database: Database) -> None:
    turn = failed(database, conversation(database))
    with pytest.raises(NotFound):
        database.write_now(retry(turn, owner="bob"))
    with pytest.raises(NotFound):
        database.write_now(lambda c: turns.retry(c, "ada", "0" * 32, "first"))
    assert stored(database, turn) == turn


def test_of_many_retries_at_once_on_two_replicas_one_begins(database: Database) -> None:
    for _ in range(3):
        turn = failed(database, conversation(database))
        with replicas(database.url) as servers:
            got = together([(servers[n % 2], retry(turn, worker=f"w{n}")) for n in range(20)])
        assert [begun for _, begun in got].count(True) == 1
        assert {one.status for one, _ in got} == {TurnStatus.ACCEPTED}


def test_a_retry_and_a_new_message_at_once_leave_one_order(database: Database) -> None:
    """Either the retry came first, and the new one waits; or it is refused."""
    for _ in range(10):
        mine = conversation(database)
        turn = failed(database, mine)
        with replicas(database.url) as servers:
            retried, posted = together(
                [(servers[0], retry(turn)), (servers[1], accept(mine, decide=instant))]
            )
        if isinstance(retried, Conflict):
            assert posted.status is TurnStatus.DONE
            assert stored(database, turn).status is TurnStatus.FAILED
        else:
            assert posted.status is TurnStatus.ACCEPTED
            assert database.write_now(begin(posted)) is None


def test_a_retried_turn_has_both_its_starts_again(database: Database) -> None:
    turn = failed(database, conversation(database))
    database.write_now(retry(turn))
    for _ in range(leases.MOST_STARTS):
        database.write_now(begin(turn))
        expire(database, table)
        adopted = database.write_now(lambda c: leases.adopt_orphans(c, "first"))
    assert adopted == []
    assert stored(database, turn).error_code == "orphaned"


def test_what_is_handed_over_is_adopted_at_once_and_does_not_count_as_a_crash(
    database: Database,
) -> None:
    mine = conversation(database)
    turn, waiting = (database.write_now(accept(mine)) for _ in range(2))
    other = database.write_now(accept(conversation(database), worker="second"))
    for round_ in range(3):
        worker = f"worker-{round_}" if round_ else "first"
        assert database.write_now(lambda c, w=worker: leases.release(c, w)) == 2
        assert database.read_now(leases.orphans_exist)
        successor = f"worker-{round_ + 1}"
        adopted = database.write_now(lambda c, w=successor: leases.adopt_orphans(c, w))
        assert [one.id for one in adopted] == [turn.id, waiting.id]
        begun = database.write_now(begin(turn, worker=successor))
        assert begun.fence == round_ + 2
    assert stored(database, other) == other
    assert not database.read_now(leases.orphans_exist)


def test_who_handed_a_turn_over_writes_it_no_more(database: Database) -> None:
    turn = database.write_now(accept(conversation(database)))
    waiting = database.write_now(accept(turn.conversation_id))
    database.write_now(lambda c: turns.grow(c, {(turn.id, 1): Reply("Half a")}))
    database.write_now(lambda c: leases.release(c, "first"))
    late = Reply("Late.")
    database.write_now(lambda c: turns.grow(c, {(turn.id, 1): Reply("Half a reply")}))
    for operation in (
        finish(turn),
        fail(turn),
        lambda c: turns.finish_waiting(c, waiting.id, "first", late, NO_TIME),
    ):
        with pytest.raises(LostFence):
            database.write_now(operation)
    assert database.write_now(begin(turn)) is None
    assert stored(database, turn).reply == Reply("Half a")
    assert database.write_now(lambda c: leases.renew(c, "first", [turn.id])) == set()


def test_not_all_orphans_are_adopted_by_one_replica_at_once(database: Database) -> None:
    made = {database.write_now(accept(conversation(database))).id for _ in range(5)}
    expire(database, table)
    got = [
        {one.id for one in database.write_now(lambda c: leases.adopt_orphans(c, "w", most=3))}
        for _ in range(2)
    ]
    assert [len(one) for one in got] == [3, 2]
    assert got[0] | got[1] == made


def test_a_turn_that_waits_can_be_ended_before_its_time(database: Database) -> None:
    mine = conversation(database)
    first = database.write_now(accept(mine))
    waiting = database.write_now(accept(mine))
    reply = Reply("Sorry.", degraded="deadline")
    ended = database.write_now(
        lambda c: turns.finish_waiting(c, waiting.id, "first", reply, NO_TIME)
    )
    assert (ended.status, ended.reply) == (TurnStatus.DONE, reply)
    with pytest.raises(LostFence):  # written once
        database.write_now(lambda c: turns.finish_waiting(c, waiting.id, "first", reply, NO_TIME))
    with pytest.raises(LostFence):  # and not while it is answered
        database.write_now(lambda c: turns.finish_waiting(c, first.id, "first", reply, NO_TIME))


def test_whose_turns_are_still_open_is_known_also_before_a_word_is_said(
    database: Database,
) -> None:
    kept, ended, cancelled, taken = (
        database.write_now(accept(conversation(database))) for _ in range(4)
    )
    waiting = database.write_now(accept(kept.conversation_id))
    database.write_now(finish(ended))
    database.write_now(cancel(cancelled))
    database.write_now(
        lambda c: c.execute(update(table).where(table.c.id == taken.id).values(worker="other"))
    )
    ids = [one.id for one in (kept, ended, cancelled, taken, waiting)] + ["0" * 32]
    assert database.read_now(lambda c: leases.held(c, "first", ids)) == {kept.id, waiting.id}


def test_a_deadline_outlives_the_worker(database: Database) -> None:
    mine = conversation(database)
    new = NewTurn("ada", mine, "hi", "first", deadline_seconds=60)
    turn = database.write_now(lambda c: accepting.accept(c, new, open_ended, timing))
    patient = database.write_now(accept(mine))
    left = database.read_now(lambda c: turns.seconds_left(c, [turn.id, patient.id]))
    assert left.keys() == {turn.id}
    assert 30 < left[turn.id] <= 60
    database.write_now(lambda c: c.execute(update(table).values(deadline_at=now() - 1)))
    assert database.read_now(lambda c: turns.seconds_left(c, [turn.id])) == {turn.id: 0.0}


def test_a_row_that_was_not_decided_says_so_in_sql_too(database: Database) -> None:
    mine = conversation(database)
    for _ in range(2):
        database.write_now(accept(mine))
    undecided = select(table.c.seq).where(table.c.decision.is_(None))
    assert database.read_now(lambda c: c.scalars(undecided).all()) == [2]


def test_looking_for_an_open_turn_does_not_read_the_whole_conversation(
    database: Database,
) -> None:
    """Else a message would cost more with each one before it."""
    mine = conversation(database)
    database.write_now(accept(mine))
    if not database.is_sqlite:  # a small table is always read whole
        database.write_now(
            lambda c: c.execute(
                text(
                    "INSERT INTO turns (id, conversation_id, owner, seq, status, text, created_at)"
                    " SELECT md5(n::text), :mine, 'ada', n + 1, 'done', 'hi', 0"
                    " FROM generate_series(1, 5000) AS n"
                ),
                {"mine": mine},
            )
        )
        database.write_now(lambda c: c.execute(text("ANALYZE turns")))
    explain = "EXPLAIN QUERY PLAN" if database.is_sqlite else "EXPLAIN"
    query = (
        f"{explain} SELECT 1 FROM turns "
        "WHERE conversation_id = :mine AND turns.status IN ('accepted', 'generating')"
    )
    plan = database.read_now(lambda c: c.execute(text(query), {"mine": mine}).all())
    assert "ix_turns_open_in_conversation" in str(plan)
