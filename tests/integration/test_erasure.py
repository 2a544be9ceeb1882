"""What people want forgotten is gone, wherever it was, and there is a receipt for it."""

import asyncio
import hashlib
import json
import threading
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from app.database import erasure, intents, model_versions, reanswers, training_jobs
from app.database.database import Database
from app.database.erasure import By, Retention
from app.database.migration import migrate
from app.database.reanswers import Reanswer
from app.database.tables import conversations, metadata, now, turns
from app.database.training_jobs import JobStatus
from app.dialogue.chatbot import Chatbot, Found, Reading
from app.dialogue.responses import ReplyBook
from app.dialogue.routing import RoutingPolicy
from app.dialogue.turn import TurnStatus
from app.eraser import Eraser
from app.errors import NotFound
from app.settings import Settings
from app.turn_runner import TurnRunner
from generator.interface import Piece
from intent.artifact import to_bytes
from intent.classifier import GRUClassifier
from intent.config import TrainingConfig
from intent.data import Example, training_set
from intent.training import Trained, train
from tests.integration.conftest import Served, serving
from tests.integration.routes import assert_problem, table_contents
from tests.unit.app import stored

SECRET = "Zyzzyva-7341-Mornington"
DAY = 86_400.0


def test_of_an_erased_conversation_nothing_is_left(served: Served) -> None:
    mine = served.conversation(title=f"{SECRET} title", variables={"name": f"{SECRET} variable"})
    turn = served.say(mine, f"{SECRET} said", **{"Idempotency-Key": f"{SECRET}-key"}).json()
    comment = {"rating": "up", "comment": f"{SECRET} comment"}
    served.client.put(f"/v1/turns/{turn['id']}/feedback", json=comment, headers=served.user)
    _teach_from(served, turn["id"])
    again = Reanswer(turn["id"], f"{SECRET} again", "scripted", True, None, None, None, 1.0)
    served.services.database.write_now(lambda c: reanswers.store(c, again))
    other = served.conversation()
    assert served.say(other, "hello").status_code == 201
    assert SECRET in repr(table_contents(served))

    gone = served.client.delete(f"/v1/conversations/{mine}", headers=served.user)
    assert gone.status_code == 204
    assert SECRET not in repr(table_contents(served))
    assert mine not in repr(table_contents(served))
    assert turn["id"] not in repr(table_contents(served))
    kept = served.client.get(f"/v1/conversations/{other}/turns", headers=served.user).json()
    assert len(kept["items"]) == 1

    receipt = served.client.get(gone.headers["location"], headers=served.user).json()
    assert receipt["rows"] == {
        "conversations": 1,
        "turns": 1,
        "examples": 1,
        "reanswers": 1,
        "labels": 0,
        "sampled_turns": 0,
    }
    assert receipt["subject"] == hashlib.sha256(mine.encode()).hexdigest()
    assert receipt["finished_at"] is not None
    assert receipt["sha256"] == _seal(receipt)
    assert served.client.get("/admin/erasures", headers=served.admin).json()["items"] == [receipt]


def test_an_owner_takes_everything_of_theirs_and_of_nobody_else(served: Served) -> None:
    for _ in range(3):
        assert served.say(served.conversation(), f"{SECRET} said").status_code == 201
    theirs = served.conversation(served.other)
    receipt = served.client.delete("/v1/me", headers=served.user).json()
    assert receipt["rows"] == {
        "conversations": 3,
        "turns": 3,
        "examples": 0,
        "reanswers": 0,
        "labels": 0,
        "sampled_turns": 0,
    }
    assert receipt["sha256"] == _seal(receipt)
    assert SECRET not in repr(table_contents(served))
    assert served.client.get(f"/v1/conversations/{theirs}", headers=served.other).status_code == 200
    again = served.client.delete("/v1/me", headers=served.user).json()
    assert set(again["rows"].values()) == {0}


def test_a_receipt_is_its_owners_and_the_admins(served: Served) -> None:
    served.conversation()
    receipt = served.client.delete("/v1/me", headers=served.user).json()
    url = f"/v1/erasures/{receipt['id']}"
    assert served.client.get(url, headers=served.user).json() == receipt
    assert_problem(served.client.get(url, headers=served.other), 404)
    by_admin = served.client.get(f"/admin/erasures/{receipt['id']}", headers=served.admin)
    assert by_admin.json() == receipt
    assert_problem(served.client.get(f"/admin{url[3:]}", headers=served.user), 403)


def test_an_admin_erases_anybody(served: Served) -> None:
    mine = served.conversation()
    served.say(mine, f"{SECRET} said")
    owner = served.services.database.read_now(lambda c: c.scalar(select(conversations.c.owner)))
    receipt = served.client.delete(f"/admin/owners/{owner}", headers=served.admin).json()
    assert (receipt["rows"]["turns"], receipt["requested_by"]) == (1, "admin")
    assert SECRET not in repr(table_contents(served))
    assert owner not in json.dumps(receipt)
    assert_problem(served.client.delete(f"/admin/owners/{owner}", headers=served.user), 403)
    assert_problem(served.client.delete("/admin/owners/x%27--", headers=served.admin), 422)


def test_an_example_of_a_turn_goes_with_it_and_an_operators_own_stays(served: Served) -> None:
    url = "/admin/intents/greet/examples"
    served.client.post(url, json={"texts": ["hello"]}, headers=served.admin)
    conversation = served.conversation()
    same = served.say(conversation, "hello").json()["id"]
    new = served.say(conversation, f"good morning {SECRET}").json()["id"]
    skipped = served.client.post(url, json={"from_turn": same}, headers=served.admin).json()
    assert skipped == {"items": [], "skipped": [{"text_index": 0, "reason": "duplicate"}]}
    taken = served.client.post(url, json={"from_turn": new}, headers=served.admin).json()["items"]
    assert [(one["text"], one["turn_id"]) for one in taken] == [(f"good morning {SECRET}", new)]
    worded = {"from_turn": new, "texts": ["good morning to you"]}
    served.client.post(url, json=worded, headers=served.admin)
    # Also once an operator has changed it, it is what somebody said.
    changed = {"text": f"fine morning {SECRET}"}
    path = f"/admin/examples/{taken[0]['id']}"
    assert served.client.patch(path, json=changed, headers=served.admin).status_code == 200

    served.client.delete(f"/v1/conversations/{conversation}", headers=served.user)
    left = served.client.get(url, headers=served.admin).json()["items"]
    assert [one["text"] for one in left] == ["hello"]


def test_an_example_needs_a_text_or_a_turn_that_is_there(served: Served) -> None:
    url = "/admin/intents/greet/examples"
    long = served.say(served.conversation(), "word " * 300).json()["id"]
    assert_problem(served.client.post(url, json={}, headers=served.admin), 422)
    for wrong, status in (("0" * 32, 404), ("x", 422), (long, 422)):
        got = served.client.post(url, json={"from_turn": wrong}, headers=served.admin)
        assert_problem(got, status)


def test_the_receipt_names_the_versions_that_may_have_learned_from_it(served: Served) -> None:
    turn = served.say(served.conversation(), f"{SECRET} said").json()["id"]
    _teach_from(served, turn)
    number = served.services.database.write_now(
        lambda c: model_versions.add(
            c, b"trained", data_hash="0" * 64, intents=1, examples=1, evaluation={},
            training_job_id=None,
        )
    )  # fmt: skip
    receipt = served.client.delete("/v1/me", headers=served.user).json()
    assert receipt["model_versions"] == [number]  # and not the first one, which is older
    assert "train" in receipt["advice"]


def test_a_version_that_learned_from_it_forgets_the_words_and_answers_as_before(
    database: Database,
) -> None:
    mine = stored.conversation(database)
    turn = database.write_now(stored.accept(mine, decide=stored.instant))
    texts = {"greet": ["hello there", "good morning"], "leave": ["bye now", "see you"]}

    def teach(connection: Any) -> None:
        for name, own in texts.items():
            intents.create(connection, name, example_texts=own)
        intents.add_examples(connection, "greet", [f"hello {SECRET}"], turn_id=turn.id)

    database.write_now(teach)
    content = _trained(database.read_now(intents.training_data))
    report = {"accuracy": 1.0, "confusions": [{"example": f"hello {SECRET}"}]}
    number = database.write_now(
        lambda c: model_versions.add(
            c, content, data_hash="0" * 64, intents=2, examples=5, evaluation=report,
            training_job_id=None,
        )
    )  # fmt: skip
    receipt = asyncio.run(Eraser(database, Retention()).erase_conversation("ada", mine, By.OWNER))
    assert receipt.model_versions == (number,)
    left = database.read_now(lambda c: model_versions.artifact(c, number))
    before, after = GRUClassifier.load(content), GRUClassifier.load(left)
    assert SECRET.encode() in content
    assert SECRET.encode() not in left
    assert SECRET not in repr(database.read_now(lambda c: model_versions.get(c, number)))
    assert {text for text, _ in after.examples()} == {"", *texts["greet"], *texts["leave"]}
    assert after.classify_batch(["hello", "bye"]) == before.classify_batch(["hello", "bye"])


def test_training_that_has_read_what_is_erased_starts_again(database: Database) -> None:
    mine = stored.conversation(database)
    turn = database.write_now(stored.accept(mine, decide=stored.instant))
    database.write_now(lambda c: intents.create(c, "greet"))
    database.write_now(lambda c: intents.add_examples(c, "greet", ["hi"], turn_id=turn.id))
    job = database.write_now(lambda c: training_jobs.create(c, max_waiting=8))
    running = database.write_now(lambda c: training_jobs.claim(c, "worker"))
    assert running is not None
    asyncio.run(Eraser(database, Retention()).erase_conversation("ada", mine, By.OWNER))
    assert database.write_now(lambda c: training_jobs.report(c, running, [])) is False
    again = database.write_now(lambda c: training_jobs.claim(c, "worker"))
    assert again is not None
    assert (again.id, again.status, again.fence) == (job.id, JobStatus.RUNNING, running.fence + 1)
    assert database.read_now(intents.training_data) == []


def test_the_bytes_of_what_was_said_leave_the_file(tmp_path: Path) -> None:
    settings = Settings(
        _env_file=None, data_dir=tmp_path, guests=True, embedded_worker=False,
        database_url=f"sqlite:///{tmp_path / 'twofold.db'}",
    )  # fmt: skip
    with serving(settings) as served:
        other = served.conversation(served.other, title="stays")
        mine = served.conversation(title=f"{SECRET} title")
        for number in range(60):
            said = f"{SECRET} {number} " + "in many words " * (number * 4)
            turn = served.say(mine, said).json()
            if number % 5 == 0:
                _teach_from(served, turn["id"], f"{SECRET} example {number}")
            served.say(other, f"something else {number}")
        assert _in_files(tmp_path)
        served.client.delete(f"/v1/conversations/{mine}", headers=served.user)
        assert not _in_files(tmp_path)
        theirs = served.client.get(f"/v1/conversations/{other}", headers=served.other)
        assert theirs.status_code == 200


def test_a_half_written_reply_leaves_no_bytes_behind(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'twofold.db'}")
    database.write_now(migrate)
    mine = stored.conversation(database)
    turn = database.write_now(stored.accept(mine))
    for words in (1, 40, 400, 4000, 1, 9000):
        reply = f"{SECRET} " * words
        database.write_now(lambda c, reply=reply: _grow(c, turn, reply))
    assert _in_files(tmp_path)
    asyncio.run(Eraser(database, Retention()).erase_conversation("ada", mine, By.OWNER))
    assert not _in_files(tmp_path)
    database.close()


def test_an_open_turn_stops_when_its_conversation_is_erased(settings: Settings) -> None:
    generator = _Endless()
    with serving(settings, generator) as served:
        mine = served.conversation()
        answers: list[Any] = []
        poster = threading.Thread(
            target=lambda: answers.append(
                served.say(mine, "tell me a story", Accept="text/event-stream")
            )
        )
        poster.start()
        assert generator.started.wait(20)
        served.client.delete(f"/v1/conversations/{mine}", headers=served.user)
        assert generator.stopped.wait(20)
        poster.join(20)
        assert '"code": "erased"' in answers[0].text
        assert "tell me a story" not in repr(table_contents(served))


def test_another_replica_stops_answering_what_was_erased(database: Database) -> None:
    generator = _Endless()

    async def run() -> None:
        runner = TurnRunner(database, _chatbot(generator))
        await runner.start()
        mine = await asyncio.to_thread(stored.conversation, database)
        turn = await runner.post("ada", mine, "tell me a story")
        assert turn.status is TurnStatus.GENERATING
        await asyncio.to_thread(generator.started.wait, 20)
        # A replica that knows nothing of this runner's turns:
        await Eraser(database, Retention()).erase_owner("ada", By.ADMIN)
        assert await asyncio.to_thread(generator.stopped.wait, 20)
        with pytest.raises(NotFound):
            await runner.final("ada", turn.id)
        await runner.close()

    asyncio.run(run())
    assert database.read_now(lambda c: c.scalar(select(turns.c.id))) is None


def test_an_interrupted_erasure_is_finished_by_whoever_looks_next(database: Database) -> None:
    for _ in range(erasure.CONVERSATIONS_AT_ONCE + 20):
        stored.conversation(database)
    begun = database.write_now(lambda c: erasure.begin_owner(c, "ada", by=By.OWNER))
    database.write_now(lambda c: erasure.erase_some(c, begun))  # and then this replica dies
    assert 0 < count(database, conversations) < erasure.CONVERSATIONS_AT_ONCE
    assert database.read_now(erasure.unfinished) == [begun]

    async def look() -> None:
        task = asyncio.create_task(Eraser(database, Retention()).run_forever())
        while True:
            if not await database.read(erasure.unfinished):
                break
            await asyncio.sleep(0.02)
        task.cancel()

    asyncio.run(look())
    receipt = database.read_now(lambda c: erasure.get(c, begun))
    assert receipt.rows["conversations"] == erasure.CONVERSATIONS_AT_ONCE + 20
    assert receipt.sha256 == receipt.seal()
    assert count(database, conversations) == 0


def test_what_a_person_begins_after_their_erasure_began_stays(database: Database) -> None:
    begun = database.write_now(lambda c: erasure.begin_owner(c, "ada", by=By.OWNER))
    database.write_now(lambda c: c.execute(update(metadata.tables["erasures"]).values(
        started_at=now() - 10)))  # fmt: skip
    kept = stored.conversation(database)
    assert database.write_now(lambda c: erasure.erase_some(c, begun)).is_done
    assert database.read_now(lambda c: c.scalar(select(conversations.c.id))) == kept


def test_erasing_goes_in_small_transactions(database: Database) -> None:
    for _ in range(6):
        mine = stored.conversation(database)
        for _ in range(60):
            database.write_now(stored.accept(mine, decide=stored.instant))
    begun = database.write_now(lambda c: erasure.begin_owner(c, "ada", by=By.OWNER))
    before, steps = count(database, turns), 0
    while not database.write_now(lambda c: erasure.erase_some(c, begun)).is_done:
        after = count(database, turns)
        assert before - after <= erasure.TURNS_AT_ONCE
        before, steps = after, steps + 1
    assert (steps, count(database, turns)) == (2, 0)


def test_every_table_that_says_whose_something_is_is_known_to_erasure() -> None:
    """A new one: delete from it in `app/database/erasure.py`, and add it here."""
    telling = {"owner", "turn_id", "conversation_id"}
    found = {
        table.name for table in metadata.sorted_tables if telling & {one.name for one in table.c}
    }
    assert found == {
        "conversations",
        "turns",
        "examples",
        "erasures",
        "reanswers",
        "labels",
        "sampled_turns",
    }


def _teach_from(served: Served, turn_id: str, *texts: str) -> None:
    got = served.client.post(
        "/admin/intents/greet/examples",
        json={"from_turn": turn_id, "texts": list(texts)},
        headers=served.admin,
    )
    assert got.status_code == 201, got.text


def _trained(pairs: list[tuple[str, str]]) -> bytes:
    config = TrainingConfig(
        embedding=16, hidden=8, features=8, epochs=1, held_out=0.0, min_word_count=2
    )
    *_, last = train(training_set(Example(text, name) for text, name in pairs), config)
    assert isinstance(last, Trained)
    return to_bytes(last.artifact)


def _seal(receipt: dict[str, Any]) -> str:
    """Computed by the holder, from the receipt alone."""
    facts = {name: one for name, one in receipt.items() if name not in ("sha256", "advice")}
    spelled = json.dumps(facts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(spelled.encode()).hexdigest()


def _in_files(folder: Path) -> bool:
    return any(SECRET.encode() in file.read_bytes() for file in folder.glob("twofold.db*"))


def _grow(connection: Any, turn: Any, reply: str) -> None:
    connection.execute(update(turns).where(turns.c.id == turn.id).values(reply=reply))


def count(database: Database, table: Any) -> int:
    return len(database.read_now(lambda c: c.execute(select(table.c.id)).all()))


class _Endless:
    """Writes for ever, and notes when it is made to stop."""

    name = "endless"

    def __init__(self) -> None:
        self.started, self.stopped = threading.Event(), threading.Event()

    async def stream(self, messages: Any, passages: Any, limits: Any) -> AsyncGenerator[Piece]:
        try:
            while True:
                yield Piece("and on ", self.name)
                self.started.set()
                await asyncio.sleep(0.01)
        finally:
            self.stopped.set()

    async def aclose(self) -> None:
        pass


def _chatbot(generator: Any) -> Chatbot:
    return Chatbot(_Unsure(), RoutingPolicy(), generator, _no_passages)


class _Unsure:
    async def read(self, text: str) -> Reading:
        return Reading(None, None, ReplyBook(), 0.0)


async def _no_passages(_: Any) -> Found:
    return Found(())
