"""Conversations as they come: every format, and what is wrong with a file."""

import json
from pathlib import Path

import pytest

from generator.interface import ChatMessage
from generator.seq2seq.conversations import ConversationError, exchanges, read, split

HELLO = {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hey"}]}


def lines(*rows: object) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def turn(seq: int, text: str, reply: str | None, **more: object) -> dict[str, object]:
    return {"conversation_id": "c", "seq": seq, "text": text, "reply": reply, **more}


def texts(path: Path) -> list[list[str]]:
    return [[f"{one.role}: {one.text}" for one in found] for found in read([path])]


@pytest.mark.parametrize(
    "content",
    [
        lines(HELLO),
        json.dumps([HELLO], indent=2).encode(),
        b"\xef\xbb\xbf" + lines(HELLO),
        lines({"messages": [*HELLO["messages"], {"role": "tool", "content": "{}"}]}),
        lines({"messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]},
                            {"role": "assistant", "content": None, "tool_calls": []},
                            {"role": "assistant", "content": " hey "}]}),
        lines({"sender_id": "x", "events": [{"event": "action", "name": "action_listen"},
                                            {"event": "user", "text": "hi"},
                                            {"event": "bot", "text": "hey"}]}),
        lines({"items": [turn(1, "hi", "hey")], "next_cursor": None}),
        lines(turn(1, "hi", "hey")),
    ],
)  # fmt: skip
def test_every_format_gives_the_same_conversation(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "talk.jsonl"
    file.write_bytes(content)
    assert texts(file) == [["user: hi", "assistant: hey"]]


def test_pages_of_turns_are_put_together_in_the_order_of_the_turns(tmp_path: Path) -> None:
    file = tmp_path / "pages.jsonl"
    newer, older = [turn(3, "c", "C")], [turn(1, "a", "A"), turn(2, "b", "B")]
    file.write_bytes(lines({"items": newer}, {"items": older}))
    assert texts(file) == [
        ["user: a", "assistant: A", "user: b", "assistant: B", "user: c", "assistant: C"]
    ]


def test_replies_that_nobody_wants_more_of_are_not_learned(tmp_path: Path) -> None:
    file = tmp_path / "turns.jsonl"
    disliked = turn(1, "a", "A", feedback={"rating": "down", "comment": None})
    apology, failed = turn(2, "b", "Sorry", degraded="fallback"), turn(3, "c", None)
    file.write_bytes(lines(disliked, apology, failed, turn(4, "d", "D", degraded=None)))
    assert texts(file) == [["user: a", "user: b", "user: c", "user: d", "assistant: D"]]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"\x89PNG\0\0", "is no text"),
        (b'{"messages": []}\xff', ":1: not UTF-8"),
        (lines(HELLO) + b"hello\n", ":2: not JSON"),
        (lines(HELLO, {"text": "hi", "intent": "greet"}), ":2: expected"),
        (lines(["hi", "hey"]), "expected"),
        (lines({"messages": [{"role": "usr", "content": "hi"}]}), "role 'usr' is none of"),
        (lines({"messages": [{"role": "user", "content": 7}]}), "expected"),
        (lines({"messages": [{"role": "user", "content": "hi"}]}), "no assistant replies"),
        (lines({"messages": [{"role": "assistant", "content": "hi"}]}), "no assistant replies"),
    ],
)
def test_a_bad_file_is_named_with_the_line_and_a_remedy(
    content: bytes, problem: str, tmp_path: Path
) -> None:
    file = tmp_path / "bad.jsonl"
    file.write_bytes(content)
    with pytest.raises(ConversationError) as caught:
        read([file])
    assert str(file) in str(caught.value)
    assert problem in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConversationError, match="check the path"):
        read([tmp_path / "nothing.jsonl"])


def test_all_bad_files_are_told_at_once_and_not_endlessly(tmp_path: Path) -> None:
    one, other = tmp_path / "one.jsonl", tmp_path / "other.jsonl"
    one.write_bytes(b"x\n" * 500)
    other.write_bytes(b"")
    with pytest.raises(ConversationError) as caught:
        read([one, other])
    assert len(caught.value.problems) < 60
    assert "more" in caught.value.problems[-1]


def conversation(number: int) -> tuple[ChatMessage, ...]:
    return (ChatMessage("user", f"question {number}"), ChatMessage("assistant", "answer"))


def test_a_conversation_is_in_one_part_and_the_seed_says_which() -> None:
    told = [conversation(number) for number in range(100)]
    parts = split([*told, *told], seed=1)
    together = [*parts.train, *parts.valid, *parts.test]
    assert sorted(together, key=str) == sorted(told, key=str)
    assert [len(part) for part in (parts.train, parts.valid, parts.test)] == [80, 10, 10]
    assert split(told[::-1], seed=1) == parts
    assert split(told, seed=2) != parts


def test_a_new_conversation_moves_hardly_any_other() -> None:
    before = split([conversation(number) for number in range(100)])
    after = split([conversation(number) for number in range(101)])
    assert len(set(before.test) - set(after.test)) <= 1


def test_too_few_conversations_are_refused() -> None:
    with pytest.raises(ConversationError, match="at least 3"):
        split([conversation(1), conversation(2), conversation(2)])


def test_a_reply_is_learned_with_all_that_came_before_it() -> None:
    said = [("assistant", "hi"), ("user", "a"), ("assistant", "b"), ("assistant", "c")]
    talk = tuple(ChatMessage(role, text) for role, text in said)
    assert [(len(one.context), one.reply) for one in exchanges(talk)] == [(2, "b"), (3, "c")]
