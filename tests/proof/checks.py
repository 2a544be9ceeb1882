"""Holds the database, and what the API says of it, against what was acknowledged.

The SQL here is plain on purpose: a check that asked the product's own functions would share
their mistakes.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import create_engine, text

from tests.proof import http
from tests.proof.load import FINAL, Doors, Said, Truth
from tests.proof.stand_ins import GREETINGS, digest, digest_in

MOST_TURNS_OF_HISTORY = 20
KINDS = ("lost", "doubled", "out of order", "wrong history", "stream differs", "altered", "other")


@dataclass(frozen=True)
class Finding:
    kind: str
    detail: str


def counted(findings: Sequence[Finding]) -> dict[str, int]:
    found = Counter(one.kind for one in findings)
    return {kind: found[kind] for kind in KINDS}


def read_rows(url: str) -> Mapping[str, list[Mapping[str, Any]]]:
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    tables = {
        "turns": "SELECT * FROM turns ORDER BY conversation_id, seq",
        "conversations": "SELECT id, owner, next_seq FROM conversations",
        "jobs": "SELECT * FROM training_jobs",
        "versions": "SELECT number, sha256, size_bytes, training_job_id FROM model_versions",
        "promotions": "SELECT epoch, model_version FROM promotions ORDER BY epoch",
    }
    try:
        with engine.connect() as connection:
            return {
                name: [dict(row._mapping) for row in connection.execute(text(query))]
                for name, query in tables.items()
            }
    finally:
        engine.dispose()


def compare(truth: Truth, rows: Mapping[str, list[Mapping[str, Any]]]) -> list[Finding]:
    return [
        *_compare_turns(truth, rows["turns"]),
        *_compare_conversations(truth, rows["conversations"], rows["turns"]),
        *_compare_order(truth.said),
        *_compare_training(truth, rows),
        *(Finding("other", f"unexpected reply: {one}") for one in truth.unexpected),
    ]


def _compare_turns(truth: Truth, turns: Sequence[Mapping[str, Any]]) -> Iterator[Finding]:
    by_id = {row["id"]: row for row in turns}
    by_text: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    for row in turns:
        by_text[row["conversation_id"], row["text"]].append(row["id"])
    for (_, said), ids in by_text.items():
        if len(ids) > 1:
            yield Finding("doubled", f"{said!r} was said once and stored {len(ids)} times")
    for said in truth.said:
        yield from (Finding(*one) for one in said.contradictions)
        if said.turn is not None:
            yield from _compare_turn(said, by_id.get(said.turn))
    for row in turns:
        if row["status"] not in FINAL:
            yield Finding("other", f"{row['id']} is {row['status']}, and everybody has gone")
        starts = row.get("starts", row["fence"])  # a turn that is handed over has a fence more
        if starts > 2:
            yield Finding("other", f"{row['id']} was started {starts} times")


def _compare_turn(said: Said, row: Mapping[str, Any] | None) -> Iterator[Finding]:
    if row is None:
        yield Finding("lost", f"{said.turn} was acknowledged and is not there")
        return
    kept = (row["text"], row["seq"], row["owner"], row["conversation_id"])
    if kept != (said.text, said.seq, f"key:{said.owner}", said.conversation):
        yield Finding("altered", f"{said.turn} is not what was acknowledged")
    if said.final is not None:
        told = (said.final["status"], said.final["reply"])
        if told != (row["status"], row["reply"]):
            yield Finding(
                "lost" if row["status"] not in FINAL else "altered",
                f"{said.turn} was told as {told}, and is {row['status'], row['reply']}",
            )
    for heard in said.streams:
        if heard != (row["reply"] or ""):
            yield Finding("stream differs", f"{said.turn}: {heard!r} is {row['reply']!r}")
    if said.cancelled and row["status"] != "cancelled":
        yield Finding("altered", f"{said.turn} was cancelled, and is {row['status']}")


def _compare_conversations(
    truth: Truth, conversations: Sequence[Mapping[str, Any]], turns: Sequence[Mapping[str, Any]]
) -> Iterator[Finding]:
    rows = {row["id"]: row for row in conversations}
    of: defaultdict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for turn in turns:
        of[turn["conversation_id"]].append(turn)
    for conversation in truth.conversations:
        if conversation not in rows:
            yield Finding("lost", f"conversation {conversation}")
            continue
        numbers = [turn["seq"] for turn in of[conversation]]
        if numbers != list(range(1, len(numbers) + 1)):
            yield Finding("out of order", f"{conversation} has the numbers {numbers}")
        if rows[conversation]["next_seq"] != len(numbers) + 1:
            yield Finding("out of order", f"{conversation} goes on with a wrong number")
        yield from _compare_histories(of[conversation])


def _compare_histories(turns: Sequence[Mapping[str, Any]]) -> Iterator[Finding]:
    """Of one conversation, in order. A generated reply says which history it was asked with, an
    instant one says by its wording how many there were before."""
    before: list[tuple[str, str]] = []
    greetings = 0
    last_end = 0.0
    for turn in turns:
        if turn["route"] == "instant":
            expected = GREETINGS[greetings % len(GREETINGS)]
            greetings += 1
            if turn["status"] == "done" and turn["reply"] != expected:
                yield Finding("wrong history", f"{turn['id']} says {turn['reply']!r}")
        elif turn["status"] == "done":
            known = digest(before[-2 * MOST_TURNS_OF_HISTORY :])
            if digest_in(turn["reply"] or "") != known:
                yield Finding("wrong history", f"{turn['id']} does not know what was said before")
        if turn["status"] == "done":
            before += [("user", turn["text"]), ("assistant", turn["reply"] or "")]
            if turn["finished_at"] < last_end - 0.001:
                yield Finding("out of order", f"{turn['id']} ended before the turn before it")
            last_end = turn["finished_at"]


def _compare_order(said: Sequence[Said]) -> Iterator[Finding]:
    """What was acknowledged before the next thing was posted has the lower number."""
    of: defaultdict[str, list[Said]] = defaultdict(list)
    for one in said:
        if one.seq is not None:
            of[one.conversation].append(one)
    for conversation in of.values():
        for earlier in conversation:
            for later in conversation:
                assert earlier.seq is not None
                assert later.seq is not None
                known = earlier.acknowledged_at is not None
                if known and earlier.acknowledged_at < later.posted_at and earlier.seq >= later.seq:
                    yield Finding("out of order", f"{later.turn} has a number before its time")


def _compare_training(
    truth: Truth, rows: Mapping[str, list[Mapping[str, Any]]]
) -> Iterator[Finding]:
    jobs = {row["id"]: row for row in rows["jobs"]}
    versions = Counter(row["training_job_id"] for row in rows["versions"])
    numbers = {row["number"] for row in rows["versions"]}
    for job_id, told in truth.jobs.items():
        job = jobs.get(job_id)
        if job is None:
            yield Finding("lost", f"training job {job_id}")
        elif told is not None and (told["status"], told.get("model_version")) != (
            job["status"],
            job["model_version"],
        ):
            yield Finding("altered", f"training job {job_id} is {job['status']}")
    for job_id, job in jobs.items():
        made = versions[job_id]
        if made != (job["status"] == "succeeded"):
            kind = "doubled" if made > 1 else "lost"
            yield Finding(kind, f"training job {job_id} {job['status']}: {made} model versions")
        if job["model_version"] is not None and job["model_version"] not in numbers:
            yield Finding("lost", f"model version {job['model_version']}")
    epochs = {row["epoch"]: row["model_version"] for row in rows["promotions"]}
    if list(epochs) != list(range(1, len(epochs) + 1)):
        yield Finding("out of order", "the epochs have gaps")
    for epoch, number in truth.promotions.items():
        if epochs.get(epoch) != number:
            yield Finding("lost", f"promotion {epoch} of model version {number}")


async def compare_api(
    doors: Doors, truth: Truth, turns: Sequence[Mapping[str, Any]]
) -> list[Finding]:
    """Every conversation over the API, page by page, is what the table has."""
    stored: defaultdict[str, list[tuple[Any, ...]]] = defaultdict(list)
    for row in turns:
        stored[row["conversation_id"]].append(tuple(row[name] for name in _SHOWN))
    findings = []
    for conversation, owner in truth.conversations.items():
        told: list[tuple[Any, ...]] = []
        cursor = ""
        while True:
            path = f"/v1/conversations/{conversation}/turns?limit=200{cursor}"
            status, page = await http.call(
                doors.ports[0], "GET", path, key=doors.users[owner], seconds=doors.head_seconds
            )
            if status != 200:
                findings.append(Finding("other", f"{conversation}: {status}"))
                break
            told = [tuple(one[name] for name in _SHOWN) for one in page["items"]] + told
            if page["next_cursor"] is None:
                break
            cursor = f"&cursor={page['next_cursor']}"
        if told != stored[conversation]:
            findings.append(Finding("other", f"{conversation}: the API shows something else"))
    return findings


_SHOWN = ("id", "seq", "text", "reply", "status")
