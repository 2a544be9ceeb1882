"""Into the database from files, and out again: training data, replies, documents."""

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from sqlalchemy import Connection

from app.database import documents, intents, turns
from app.errors import InvalidInput, NotFound
from generator.documents import FORMATS, DocumentError
from generator.documents import read as read_document
from intent.data import Example, TrainingSet, training_set
from intent.data import read as read_training_data
from intent.data import write as write_training_data
from intent.interface import TrainingDataError

_TRAINING_DATA = {".yml", ".yaml", ".jsonl", ".csv"}
_LONGEST_NAME = 200
_MOST_PROBLEMS = 50


@dataclass(frozen=True, slots=True)
class Import:
    """What the files hold, checked, before anything is stored."""

    training: TrainingSet
    replies: Mapping[str, Sequence[str]] = field(default_factory=dict)
    documents: Mapping[str, str] = field(default_factory=dict)
    notices: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Imported:
    intents: int
    examples: int
    replies: int
    documents: int


def read(paths: Sequence[Path]) -> Import:
    """Files and folders: Rasa YAML, JSONL, CSV; Markdown, text, HTML. Raises InvalidInput, which
    names the file."""
    files = [file for path in paths for file in _files(path)]
    trainable = [file for file in files if file.suffix.lower() in _TRAINING_DATA]
    try:
        training = read_training_data(trainable) if trainable else training_set(())
    except TrainingDataError as error:
        raise InvalidInput("\n".join(error.problems), code="bad_training_data") from error
    problems = [
        f"{example.source}: {problem}"
        for example in (*training.examples, *training.out_of_scope)
        if (problem := _unfit(example.text) or _unfit(example.intent, most=_LONGEST_NAME))
    ]
    replies: dict[str, list[str]] = {}
    for file in trainable:
        if file.suffix.lower() in (".yml", ".yaml"):
            found = _replies_in(file)
            for name, variants in found.items():
                unfit = filter(None, (_unfit(name, most=_LONGEST_NAME), *map(_unfit, variants)))
                problems += (f"{file}: a reply or its intent {problem}" for problem in unfit)
            replies |= found
    texts: dict[str, str] = {}
    for file in files:
        if file.suffix.lower() in FORMATS:
            name = re.sub(r"[^\w.-]+", "-", file.stem)[:_LONGEST_NAME]
            if name in texts:
                problems.append(f"{file}: another document is named {name} already; rename one")
            texts[name], problem = _document_in(file)
            if problem:
                problems.append(f"{file}: {problem}")
    if problems:
        raise InvalidInput("\n".join(problems[:_MOST_PROBLEMS]), code="bad_training_data")
    return Import(
        training=training,
        replies=replies,
        documents=texts,
        notices=[one for one in training.notices if "responses" not in one] + _left_out(training),
    )


def _left_out(training: TrainingSet) -> list[str]:
    annotated = sum(bool(example.slots) for example in training.examples)
    rules = len(training.slot_rules.rows())
    if not annotated and not rules:
        return []
    return [
        f"slots are not stored yet: the annotations of {annotated} examples and {rules} synonyms, "
        "regexes and lookup entries were left out; `python -m intent train` reads them from files"
    ]


def store(
    connection: Connection, found: Import, *, titles: Mapping[str, str] | None = None
) -> Imported:
    """Adds to what is there: known examples stay single, replies of a named intent and
    documents of a known name are replaced."""
    by_intent: dict[str, list[str]] = {name: [] for name in found.replies}
    for example in (*found.training.examples, *found.training.out_of_scope):
        by_intent.setdefault(example.intent, []).append(example.text)
    added = 0
    for name, texts in by_intent.items():
        title, replies = (titles or {}).get(name), found.replies.get(name)
        try:
            intents.change(connection, name, title=title, replies=replies)
        except NotFound:
            intents.create(connection, name, title=title or "", replies=replies or ())
        added += len(intents.add_examples(connection, name, texts)[0]) if texts else 0
    for name, markdown in found.documents.items():
        documents.put(connection, name, markdown=markdown)
    return Imported(
        intents=len(by_intent),
        examples=added,
        replies=sum(map(len, found.replies.values())),
        documents=len(found.documents),
    )


def export(connection: Connection, path: Path) -> int:
    """All examples, in the format that the ending names; returns how many. Raises InvalidInput
    for a text that the format cannot hold."""
    pairs = intents.training_data(connection)
    try:
        write_training_data(training_set(Example(text, name) for text, name in pairs), path)
    except TrainingDataError as error:
        raise InvalidInput("\n".join(error.problems), code="bad_training_data") from error
    return len(pairs)


def export_conversations(connection: Connection, path: Path, *, days: float | None = None) -> int:
    """As JSON lines that `python -m generator train` reads; returns how many. Only its owner may
    read the file. Raises InvalidInput where there is one of this name."""
    try:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise InvalidInput(
            f"{path} cannot be made ({error.strerror}); name a new file", code="no_new_file"
        ) from error
    count = 0
    with open(file, "w", encoding="utf-8") as lines:
        for messages in turns.transcripts(connection, days=days):
            content = [{"role": one.role, "content": one.text} for one in messages]
            lines.write(json.dumps({"messages": content}, ensure_ascii=False) + "\n")
            count += 1
    return count


def _unfit(text: str, *, most: int | None = None) -> str:
    """Why a text cannot be stored, or nothing: the API refuses the same."""
    if not text.strip():
        return "is empty"
    if any((one < " " and one not in "\n\r\t") or "\ud800" <= one <= "\udfff" for one in text):
        return "holds a character that is no text: NUL, a control character or half a surrogate"
    if most is not None and len(text) > most:
        return f"is longer than {most} characters"
    return ""


def _document_in(file: Path) -> tuple[str, str]:
    """(Markdown, problem)."""
    try:
        markdown = read_document(file)
    except DocumentError as error:
        return "", str(error)
    return markdown, _unfit(markdown)


def _files(path: Path) -> list[Path]:
    known = (*_TRAINING_DATA, *FORMATS)
    if path.is_dir():
        return sorted(
            file for file in path.rglob("*") if file.is_file() and file.suffix.lower() in known
        )
    if not path.is_file():
        raise InvalidInput(f"{path}: there is no such file or folder", code="no_such_file")
    if path.suffix.lower() not in known:
        raise InvalidInput(
            f"{path}: we read {', '.join(sorted(known))}", code="unknown_file_format"
        )
    return [path]


def _replies_in(file: Path) -> dict[str, list[str]]:
    """Rasa's `responses: {utter_<intent>: [{text: …}]}`, by intent."""
    try:
        content = yaml.load(file.read_bytes(), Loader=yaml.CSafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise InvalidInput(f"{file}{line}: this is not YAML", code="bad_yaml") from error
    responses = content.get("responses") if isinstance(content, dict) else None
    if not isinstance(responses, dict):
        return {}
    return {
        str(name).removeprefix("utter_"): [text for one in variants if (text := _text_of(one))]
        for name, variants in responses.items()
        if isinstance(variants, list)
    }


def _text_of(variant: Any) -> str:
    text = variant.get("text") if isinstance(variant, dict) else None
    return text.strip() if isinstance(text, str) else ""
