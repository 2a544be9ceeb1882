"""More than one replica can do: refused at once, before anything is stored; the rest goes on."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from generator.interface import Piece
from generator.scripted import ScriptedGenerator
from tests.integration.conftest import Served, serving
from tests.integration.routes import assert_problem, table_contents

OPEN_ENDED = "tell me a story"


class Held(ScriptedGenerator):
    """Says nothing until it is let go."""

    def __init__(self) -> None:
        super().__init__([])
        self.started = threading.Semaphore(0)
        self.go_on = threading.Event()

    async def stream(self, *_: Any, **__: Any) -> AsyncIterator[Piece]:
        self.started.release()
        await asyncio.to_thread(self.go_on.wait, 30)
        yield Piece("Done.", self.name)


@contextmanager
def writing(served: Served, generator: Held, count: int, **options: Any) -> Iterator[list[Any]]:
    """So many turns that a generator is at work on, each in a conversation of its own; what
    they were answered with is in the list in the end."""
    answers: list[Any] = []

    def post() -> None:
        answers.append(_post(served, served.conversation(**options), OPEN_ENDED, **options))

    threads = [threading.Thread(target=post) for _ in range(count)]
    for thread in threads:
        thread.start()
    for _ in threads:
        assert generator.started.acquire(timeout=20)
    try:
        yield answers
    finally:
        generator.go_on.set()
        for thread in threads:
            thread.join(20)


@contextmanager
def stuck_writer(served: Served) -> Iterator[tuple[ThreadPoolExecutor, threading.Event]]:
    """The writing thread is in the middle of a commit until it may go on; and threads to wait in
    behind it."""
    database = served.services.database
    reached, go_on = threading.Event(), threading.Event()

    def wait(_: Any) -> None:
        reached.set()
        go_on.wait(30)

    with ThreadPoolExecutor(4) as pool:
        holding = pool.submit(database.write_now, wait)
        try:
            assert reached.wait(20)
            yield pool, go_on
        finally:
            go_on.set()
        holding.exception(30)  # PostgreSQL may have ended so long a transaction; that is as good


def test_instant_answers_flow_while_all_places_of_the_generator_are_taken(settings) -> None:
    generator = Held()
    few = settings.model_copy(update={"max_generating_turns": 2})
    with serving(few, generator) as served:
        conversation = served.conversation()
        with writing(served, generator, 2) as answers:
            before = table_contents(served)
            refused = _post(served, conversation, OPEN_ENDED)
            problem = assert_problem(refused, 503)
            assert problem["code"] == "generators_full"
            assert _retry_after(refused) >= 3
            assert table_contents(served) == before  # no row, no number drawn
            for _ in range(5):
                assert _post(served, conversation, "hello").json()["status"] == "done"
        assert [one.json()["reply"] for one in answers] == ["Done.", "Done."]
        assert _post(served, conversation, OPEN_ENDED).json()["reply"] == "Done."


def test_no_generator_is_free_and_that_is_said_however_long_the_writer_takes(settings) -> None:
    generator = Held()
    few = settings.model_copy(update={"max_generating_turns": 1})
    with serving(few, generator) as served:
        conversation = served.conversation()
        with writing(served, generator, 1), stuck_writer(served) as (pool, go_on):
            refused = pool.submit(_post, served, conversation, OPEN_ENDED)
            assert assert_problem(refused.result(10), 503)["code"] == "generators_full"
            known = pool.submit(_post, served, conversation, "hello")
            _until(lambda: served.services.database.waiting_writes > 0)
            go_on.set()
            assert known.result(20).json()["status"] == "done"


def test_a_refused_turns_key_is_free(settings) -> None:
    generator = Held()
    few = settings.model_copy(update={"max_generating_turns": 1})
    key = {"Idempotency-Key": "0123456789abcdef"}
    with serving(few, generator) as served:
        conversation = served.conversation()
        with writing(served, generator, 1):
            assert_problem(_post(served, conversation, OPEN_ENDED, more=key), 503)
        again = _post(served, conversation, OPEN_ENDED, more=key)
        assert (again.status_code, again.json()["seq"]) == (201, 1)


def test_a_turn_that_is_stored_already_is_attached_to_however_full_it_is(settings) -> None:
    generator = Held()
    few = settings.model_copy(update={"max_generating_turns": 1, "max_open_turns": 1})
    key = {"Idempotency-Key": "0123456789abcdef"}
    with serving(few, generator) as served, ThreadPoolExecutor(2) as pool:
        conversation = served.conversation()
        first = pool.submit(_post, served, conversation, OPEN_ENDED, more=key)
        assert generator.started.acquire(timeout=20)
        again = pool.submit(_post, served, conversation, OPEN_ENDED, more=key)
        runner = served.services.turns
        _until(lambda: served.services.admission.requests == 2 and runner.places._arriving == 0)
        generator.go_on.set()
        assert again.result(20).json()["id"] == first.result(20).json()["id"]
        assert again.result().headers["idempotency-replayed"] == "true"


def test_a_key_has_a_share_of_open_turns_and_others_go_on(settings) -> None:
    generator = Held()
    few = settings.model_copy(update={"max_open_turns_per_key": 2})
    with serving(few, generator) as served, writing(served, generator, 2):
        refused = _post(served, served.conversation(), "hello")
        assert assert_problem(refused, 429)["code"] == "quota_exceeded"
        theirs = served.conversation(served.other)
        assert _post(served, theirs, "hello", headers=served.other).json()["status"] == "done"


def test_a_key_may_post_so_many_turns_a_minute(settings) -> None:
    few = settings.model_copy(
        update={"turns_per_minute_per_key": 5, "turns_per_minute_per_guest": 2}
    )
    with serving(few) as served:
        conversation = served.conversation()
        assert [_post(served, conversation, "hello").status_code for _ in range(5)] == [201] * 5
        before = table_contents(served)
        refused = _post(served, conversation, "hello")
        assert assert_problem(refused, 429)["code"] == "quota_exceeded"
        assert 10 <= _retry_after(refused) <= 20  # a place comes back every 12 seconds
        explained = served.client.post("/v1/route", json={"text": "hello"}, headers=served.user)
        assert_problem(explained, 429)
        assert table_contents(served) == before
        # To read is no turn; and others have their own share.
        assert served.client.get("/v1/conversations", headers=served.user).status_code == 200
        theirs = served.conversation(served.other)
        assert _post(served, theirs, "hello", headers=served.other).status_code == 201

        guest = _guest(served)
        talk = served.conversation(guest)
        got = [_post(served, talk, "hello", headers=guest).status_code for _ in range(3)]
        assert got == [201, 201, 429]


def test_those_who_are_refused_together_are_told_to_come_back_apart(settings) -> None:
    few = settings.model_copy(update={"turns_per_minute_per_key": 1})
    with serving(few) as served:
        conversation = served.conversation()
        _post(served, conversation, "hello")
        told = {_retry_after(_post(served, conversation, "hello")) for _ in range(30)}
        assert len(told) > 5
        assert min(told) >= 59  # never sooner than a place is there


def test_a_key_has_so_many_requests_under_way(settings) -> None:
    generator = Held()
    few = settings.model_copy(update={"max_requests_per_key": 2})
    with serving(few, generator) as served, writing(served, generator, 2):
        refused = served.client.get("/v1/conversations", headers=served.user)
        assert assert_problem(refused, 429)["code"] == "quota_exceeded"
        assert served.client.get("/v1/conversations", headers=served.other).status_code == 200


def test_a_replica_has_so_many_requests_under_way_and_still_says_that_it_lives(settings) -> None:
    generator = Held()
    few = settings.model_copy(update={"max_requests": 2})
    with serving(few, generator) as served, writing(served, generator, 2):
        for headers in (served.other, served.admin, {}):
            refused = served.client.get("/v1/conversations", headers=headers)
            assert assert_problem(refused, 503)["code"] == "overloaded"
            assert _retry_after(refused) >= 1
        assert served.client.get("/livez").status_code == 200
        assert served.client.get("/readyz").status_code == 200


def test_listeners_do_not_take_the_place_of_others(settings) -> None:
    generator = Held()
    few = settings.model_copy(update={"max_listeners": 2})
    with serving(few, generator) as served, writing(served, generator, 1):
        listed = served.client.get("/v1/conversations", headers=served.user).json()["items"]
        turns = f"/v1/conversations/{listed[0]['id']}/turns"
        turn = served.client.get(turns, headers=served.user).json()["items"][0]["id"]
        with ThreadPoolExecutor(2) as pool:
            waits = [
                pool.submit(served.client.get, f"/v1/turns/{turn}{how}", headers=served.user)
                for how in ("?wait=20", "/events")
            ]
            _until(lambda: served.services.admission.listeners == 2)
            for how in ("?wait=1", "/events"):
                refused = served.client.get(f"/v1/turns/{turn}{how}", headers=served.user)
                assert_problem(refused, 503)
            now = served.client.get(f"/v1/turns/{turn}", headers=served.user)
            assert now.json()["status"] == "generating"
            generator.go_on.set()
            assert waits[0].result(20).json()["status"] == "done"
            assert "event: done" in waits[1].result(20).text
        assert served.services.admission.listeners == 0


def test_no_new_turn_while_the_writer_is_far_behind(settings) -> None:
    few = settings.model_copy(update={"max_waiting_writes": 3})
    with serving(few) as served:
        conversation = served.conversation()
        database = served.services.database
        with stuck_writer(served) as (pool, go_on):
            held = [pool.submit(database.write_now, lambda _: None) for _ in range(3)]
            _until(lambda: database.waiting_writes >= 3)
            assert_problem(_post(served, conversation, "hello"), 503)
            # What is open already is not held back: the rest of the queue is for it.
            assert database._writer._max_waiting - database.waiting_writes > 900
            go_on.set()
            for one in held:
                one.result(20)
        assert _post(served, conversation, "hello").status_code == 201


def test_refusals_wait_for_neither_the_database_nor_a_body(settings) -> None:
    """The writer is stuck, the readers are stuck; who is over a limit hears so all the same."""
    few = settings.model_copy(update={"turns_per_minute_per_key": 1, "max_arriving_turns": 1})
    with serving(few) as served:
        conversation = served.conversation()
        theirs = served.conversation(served.other)
        assert _post(served, conversation, "hello").status_code == 201
        with stuck_writer(served) as (pool, go_on):
            for _ in range(3):
                served.services.database._readers.submit(go_on.wait, 30)
            stuck = pool.submit(_post, served, theirs, "hello", headers=served.other)
            _until(lambda: served.services.turns.places._arriving == 1)
            took = []
            for headers, status in ((served.user, 429), (served.other, 503)) * 20:
                start = time.perf_counter()
                got = served.client.post(
                    f"/v1/conversations/{conversation}/turns",
                    content=b"{" * 100_000,  # nobody looks at it
                    headers=headers | {"Content-Type": "application/json"},
                )
                took.append(time.perf_counter() - start)
                assert_problem(got, 429, 503)
                assert got.status_code in (status, 503)
            assert sorted(took)[len(took) // 2] < 0.05
            go_on.set()
            assert stuck.result(30).status_code == 201


def test_bodies_that_arrive_together_do_not_fill_the_memory(settings) -> None:
    few = settings.model_copy(update={"max_waiting_body_mb": 1, "max_body_bytes": 900_000})
    with serving(few) as served:
        path = f"/v1/conversations/{served.conversation()}/turns"
        headers = served.user | {"Content-Type": "application/json"}
        body = b" " * 600_000 + b'{"text": "hello"}'
        assert served.client.post(path, content=body, headers=headers).status_code == 201
        door = _door(served)
        door._bodies._held = 500_000  # as if somebody else's were under way
        refused = served.client.post(path, content=body, headers=headers)
        assert assert_problem(refused, 503)["code"] == "overloaded"
        assert _retry_after(refused) >= 1
        door._bodies._held -= 500_000
        assert served.client.post(path, content=body, headers=headers).status_code == 201
        assert door._bodies._held == 0


def test_sign_ins_that_fail_are_few_in_a_minute(settings) -> None:
    few = settings.model_copy(update={"failed_sign_ins_per_minute_per_address": 3})
    with serving(few) as served:
        key = served.admin["Authorization"].removeprefix("Bearer ")
        for _ in range(10):  # right ones are not counted
            assert _sign_in(served, key).status_code == 200
        for _ in range(3):
            assert_problem(_sign_in(served, "tf_guessed"), 401)
        refused = _sign_in(served, "tf_guessed")
        assert assert_problem(refused, 429)["code"] == "quota_exceeded"
        assert _retry_after(refused) >= 15
        assert_problem(_sign_in(served, key), 429)  # nor is it said whether one was right
        # Who is in already, or comes with a key in the header, is not kept out by that.
        assert served.client.get("/v1/session", headers=served.admin).status_code == 200


def test_guests_do_not_come_by_the_thousand_from_one_address(settings) -> None:
    few = settings.model_copy(update={"sessions_per_minute_per_address": 5})
    with serving(few) as served:
        got = [served.client.post("/v1/session", json={}).status_code for _ in range(7)]
        assert got == [200] * 5 + [429] * 2


@pytest.mark.parametrize("accept", ["application/json", "text/event-stream"])
def test_after_a_burst_every_place_is_free_again(settings, accept: str) -> None:
    few = settings.model_copy(
        update={"max_generating_turns": 3, "max_open_turns": 4, "max_arriving_turns": 8}
    )
    with serving(few, ScriptedGenerator(["A story."])) as served:
        conversations = [served.conversation() for _ in range(8)]

        def post(number: int) -> int:
            text = OPEN_ENDED if number % 2 else "hello"
            got = _post(served, conversations[number % 8], text, more={"Accept": accept})
            return int(got.status_code)

        with ThreadPoolExecutor(16) as pool:
            statuses = set(pool.map(post, range(160)))
        assert statuses <= {200, 201, 503}
        places, admission = served.services.turns.places, served.services.admission
        _until(lambda: places.open == places.generating == places._arriving == 0)
        _until(lambda: admission.requests == admission.listeners == 0)
        assert not places._of_owner
        assert not admission._of_owner
        done = [
            one["status"]
            for conversation in conversations
            for one in served.client.get(
                f"/v1/conversations/{conversation}/turns?limit=200", headers=served.user
            ).json()["items"]
        ]
        assert set(done) == {"done"}  # what was taken on was answered


def _post(
    served: Served,
    conversation: str,
    text: str,
    *,
    headers: dict[str, str] | None = None,
    more: dict[str, str] | None = None,
) -> Any:
    return served.client.post(
        f"/v1/conversations/{conversation}/turns",
        json={"text": text},
        headers=(headers or served.user) | (more or {}),
    )


def _guest(served: Served) -> dict[str, str]:
    cookie = served.client.post("/v1/session", json={}).headers["set-cookie"].split(";")[0]
    served.client.cookies.clear()
    return {"Cookie": cookie, "X-Twofold-Page": "1"}


def _sign_in(served: Served, key: str) -> Any:
    got = served.client.post("/v1/session", json={"key": key})
    served.client.cookies.clear()
    return got


def _retry_after(response: Any) -> int:
    return int(response.headers["retry-after"])


def _door(served: Served) -> Any:
    layer = served.client.app.middleware_stack
    while type(layer).__name__ != "Door":
        layer = layer.app
    return layer


def _until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.005)
