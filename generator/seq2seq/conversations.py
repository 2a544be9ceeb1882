"""Conversations as people have them, and what there is to learn from them. Imports no torch."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from generator.interface import ChatMessage, Role
from generator.prompt import speakable

ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
}
RASA_ROLES: dict[str, Role] = {"user": "user", "bot": "assistant"}
MOST_PROBLEMS = 50
FEWEST_CONVERSATIONS = 3
"""One to learn from, one to stop by, one to be measured on."""

Conversation = tuple[ChatMessage, ...]


class ConversationError(ValueError):
    """Files that cannot be learned from; each problem says which, where, and what to do."""

    def __init__(self, problems: Sequence[str]) -> None:
        left_out = len(problems) - MOST_PROBLEMS
        more = [f"and {left_out:,} more"] if left_out > 0 else []
        self.problems = [*problems[:MOST_PROBLEMS], *more]
        super().__init__("\n".join(self.problems))


@dataclass(frozen=True, slots=True)
class Exchange:
    """What was said before, and the assistant's reply to it."""

    context: Conversation
    reply: str


@dataclass(frozen=True, slots=True)
class Split:
    train: tuple[Conversation, ...]
    valid: tuple[Conversation, ...]
    test: tuple[Conversation, ...]


def read(paths: Iterable[Path]) -> list[Conversation]:
    """JSON lines, or one JSON document; every object is one of

    - `{"messages": [{"role", "content"}]}`, as for fine-tuning at OpenAI and elsewhere,
    - a page of `GET /v1/conversations/{id}/turns`, or one turn of it,
    - a conversation as Rasa's tracker store has it: `{"events": [{"event", "text"}]}`.

    Raises ConversationError.
    """
    conversations: list[Conversation] = []
    problems: list[str] = []
    for path in paths:
        try:
            found = _of_file(path)
        except ConversationError as error:
            problems += error.problems
        else:
            conversations += found
            if not any(exchanges(one) for one in found):
                problems.append(
                    f"{path}: no assistant replies to a user; give conversations with both sides"
                )
    if problems:
        raise ConversationError(problems)
    return conversations


def exchanges(conversation: Conversation) -> list[Exchange]:
    """Every reply that a user's message came before."""
    found = []
    for number, message in enumerate(conversation):
        before = conversation[:number]
        if message.role == "assistant" and any(one.role == "user" for one in before):
            found.append(Exchange(before, message.text))
    return found


def split(
    conversations: Sequence[Conversation], *, valid: float = 0.1, test: float = 0.1, seed: int = 0
) -> Split:
    """Whole conversations, by a hash, so that new ones move none of the old ones far. Equal ones
    count once. Raises ConversationError for fewer than three."""
    told = {_key(one, seed): one for one in conversations if exchanges(one)}
    if len(told) < FEWEST_CONVERSATIONS:
        raise ConversationError(
            [
                f"{len(told)} different conversations with replies; training needs at least "
                f"{FEWEST_CONVERSATIONS}: one to learn from, one to stop by, one to measure on"
            ]
        )
    ordered = [told[key] for key in sorted(told)]
    for_test = max(1, round(test * len(ordered)))
    for_both = for_test + max(1, round(valid * len(ordered)))
    return Split(
        train=tuple(ordered[for_both:]),
        valid=tuple(ordered[for_test:for_both]),
        test=tuple(ordered[:for_test]),
    )


def _key(conversation: Conversation, seed: int) -> str:
    content = json.dumps([seed, [(one.role, one.text) for one in conversation]])
    return hashlib.sha256(content.encode()).hexdigest()


def _of_file(path: Path) -> list[Conversation]:
    rows = list(_rows(path, _text_of(path)))
    conversations: list[Conversation] = []
    problems: list[str] = []
    turns: dict[str, dict[int, dict[str, Any]]] = {}
    for place, row in rows:
        try:
            match row:
                case {"items": [*items]}:
                    for item in items:
                        _add_turn(turns, item)
                case {"conversation_id": str(), "seq": int()}:
                    _add_turn(turns, row)
                case _:
                    conversations.append(_messages_of(row))
        except (KeyError, TypeError, ValueError) as error:
            problems.append(f"{place}: {error}" if type(error) is ValueError else f"{place}: {ODD}")
    if problems:
        raise ConversationError(problems)
    for by_number in turns.values():
        ordered = [by_number[number] for number in sorted(by_number)]
        conversations.append(tuple(one for turn in ordered for one in _messages_of_turn(turn)))
    return conversations


ODD = 'expected {"messages": [{"role": "user", "content": "..."}, ...]} or a page of turns'


def _text_of(path: Path) -> str:
    try:
        raw = path.read_bytes()
    except OSError as error:
        reason = error.strerror or "unreadable"
        raise ConversationError([f"{path}: {reason}; check the path"]) from error
    if not raw.strip():
        raise ConversationError([f"{path}: is empty; give JSON lines of conversations"])
    if b"\0" in raw:
        raise ConversationError([f"{path}: is no text; unpack or export it as JSON lines"])
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ConversationError([f"{path}:{line}: not UTF-8; save the file as UTF-8"]) from error


def _rows(path: Path, content: str) -> Iterator[tuple[str, Any]]:
    """Where each object stands, and the object."""
    try:
        whole = json.loads(content)
    except (ValueError, RecursionError):
        yield from _lines(path, content)
    else:
        rows = whole if isinstance(whole, list) else [whole]
        yield from ((f"{path}: number {n}", row) for n, row in enumerate(rows, start=1))


def _lines(path: Path, content: str) -> Iterator[tuple[str, Any]]:
    problems = []
    for number, line in enumerate(content.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            yield f"{path}:{number}", json.loads(line)
        except (ValueError, RecursionError):
            problems.append(f"{path}:{number}: not JSON; write one conversation per line")
    if problems:
        raise ConversationError(problems)


def _add_turn(turns: dict[str, dict[int, dict[str, Any]]], turn: dict[str, Any]) -> None:
    turns.setdefault(turn["conversation_id"], {})[int(turn["seq"])] = turn
    _messages_of_turn(turn)


def _messages_of_turn(turn: dict[str, Any]) -> Conversation:
    """Without a reply that was an apology, or that the user marked down: nobody wants more of
    these."""
    messages = [_message("user", turn["text"])]
    feedback = turn.get("feedback") or {}
    if turn["reply"] and turn.get("degraded") is None and feedback.get("rating") != "down":
        messages.append(_message("assistant", turn["reply"]))
    return tuple(messages)


def _messages_of(row: dict[str, Any]) -> Conversation:
    if "messages" in row:
        found = [
            _message(ROLES[one["role"]], _content_of(one["content"]))
            for one in row["messages"]
            if _role_of(one) in ROLES and one.get("content")
        ]
    elif "events" in row:
        found = [
            _message(RASA_ROLES[one["event"]], one["text"])
            for one in row["events"]
            if one["event"] in RASA_ROLES and one.get("text")
        ]
    else:
        raise ValueError(ODD)
    return tuple(one for one in found if one.text)


def _role_of(message: dict[str, Any]) -> str:
    """Tools say nothing to anybody; a role that is misspelt must not be lost in silence."""
    role = message["role"]
    if role not in (*ROLES, "tool", "function"):
        raise ValueError(f"role {str(role)[:40]!r} is none of {', '.join(ROLES)}; correct it")
    return cast(str, role)


def _content_of(content: Any) -> str:
    """OpenAI's messages may be lists of parts; what is no text in them is left out."""
    if isinstance(content, str):
        return content
    return " ".join(part["text"] for part in content if part["type"] == "text")


def _message(role: Role, text: Any) -> ChatMessage:
    if not isinstance(text, str):
        raise ValueError(f"a text that is {type(text).__name__}; write it in quotes")
    return ChatMessage(role, speakable(text.strip()))
