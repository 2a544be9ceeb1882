"""Training data: read it, check it, split it, write it. Imports no torch."""

import csv
import hashlib
import io
import json
import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from intent import annotation, rasa
from intent.annotation import AnnotatedSlot, AnnotationError
from intent.interface import OUT_OF_SCOPE, TrainingDataError
from intent.slot_rules import NO_RULES, RULE_KINDS, Rule, SlotRules, rule_problems
from intent.text import normalize, tokenize_with_spans

MAX_FILE_BYTES = 64 * 2**20
MAX_YAML_BYTES = 16 * 2**20
MAX_REPORTED_PROBLEMS = 50
FEWEST_EXAMPLES = 2
ADVISED_EXAMPLES = 10
LONGEST_TEXT_CHARACTERS = 1_000


@dataclass(frozen=True, slots=True)
class Example:
    text: str
    intent: str
    source: str = ""
    """Where it was read, as "file:line"."""
    slots: tuple[AnnotatedSlot, ...] = ()


@dataclass(frozen=True, slots=True)
class TrainingSet:
    examples: tuple[Example, ...]
    out_of_scope: tuple[Example, ...] = ()
    notices: tuple[str, ...] = ()
    """What the files held that was not imported, and where."""
    slot_rules: SlotRules = NO_RULES

    @property
    def intents(self) -> tuple[str, ...]:
        return tuple(sorted({example.intent for example in self.examples}))

    @property
    def size(self) -> int:
        return len(self.examples) + len(self.out_of_scope)


@dataclass(frozen=True, slots=True)
class Problem:
    severity: Literal["error", "warning"]
    intent: str
    message: str
    source: str = ""

    def __str__(self) -> str:
        return f"{self.source or self.intent or 'training data'}: {self.message}"


@dataclass
class FileContent:
    examples: list[Example] = field(default_factory=list)
    rules: list[Rule] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def training_set(
    examples: Iterable[Example],
    notices: Sequence[str] = (),
    slot_rules: SlotRules = NO_RULES,
) -> TrainingSet:
    """Sorts examples of the reserved intent from the others."""
    inside: list[Example] = []
    outside: list[Example] = []
    for example in examples:
        (outside if example.intent == OUT_OF_SCOPE else inside).append(example)
    return TrainingSet(tuple(inside), tuple(outside), tuple(notices), slot_rules)


def read(paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> TrainingSet:
    """Reads files and folders of .yml, .yaml, .jsonl and .csv; the ending names the format.

    Raises TrainingDataError with every problem found, not only the first.
    """
    if isinstance(paths, str | os.PathLike):
        paths = [paths]
    found = FileContent()
    for path in paths:
        for file in _files_below(Path(path), found.notices, found.problems):
            try:
                _read_file(file, found)
            except TrainingDataError as error:
                found.problems += error.problems
    if found.problems:
        raise TrainingDataError(first_of(found.problems))
    return training_set(found.examples, found.notices, SlotRules.of(found.rules))


def first_of(problems: Sequence[object]) -> list[str]:
    """What somebody can read: the first ones, and how many more there are."""
    left_out = len(problems) - MAX_REPORTED_PROBLEMS
    more = [f"and {left_out:,} more"] if left_out > 0 else []
    return [str(problem) for problem in problems[:MAX_REPORTED_PROBLEMS]] + more


def _files_below(path: Path, notices: list[str], problems: list[str]) -> list[Path]:
    if path.is_file():
        if path.suffix.lower() in READERS:
            return [path]
        problems.append(f"{path}: unknown ending; name it {', '.join(READERS)}")
        return []
    if not path.is_dir():
        problems.append(f"{path}: there is no such file or folder; check the path")
        return []
    found: list[Path] = []
    for folder, folders, names in os.walk(path):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            file = Path(folder, name)
            if name.startswith("."):
                continue
            if file.suffix.lower() in READERS:
                found.append(file)
            else:
                notices.append(f"{file}: not imported, as its ending names none of our formats")
    if not found:
        problems.append(f"{path}: no training data inside; add {', '.join(READERS)} files")
    return found


def _read_file(path: Path, found: FileContent) -> None:
    suffix = path.suffix.lower()
    limit = MAX_YAML_BYTES if suffix in {".yml", ".yaml"} else MAX_FILE_BYTES
    try:
        if path.stat().st_size > limit:
            raise TrainingDataError([f"{path}: over {limit // 2**20} MiB; split it into files"])
        raw = path.read_bytes()
    except OSError as error:
        reason = error.strerror or "unreadable"
        raise TrainingDataError([f"{path}: {reason}; make it readable"]) from error
    try:
        content = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise TrainingDataError([f"{path}:{line}: not UTF-8; save the file as UTF-8"]) from error
    READERS[suffix](content, str(path), found)


def _read_rasa(content: str, name: str, found: FileContent) -> None:
    file = rasa.parse(content, name)
    found.examples += (
        Example(example.text, example.intent, f"{name}:{example.line}", example.slots)
        for example in file.examples
    )
    found.rules += file.rules
    found.notices += file.notices
    found.problems += file.problems


def _read_jsonl(content: str, name: str, found: FileContent) -> None:
    for number, line in enumerate(content.split("\n"), start=1):
        if not line.strip():
            continue
        place = f"{name}:{number}"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            found.problems.append(f"{place}: not JSON; write one object per line")
            continue
        match row:
            case {"text": str(text), "intent": str(intent)}:
                try:
                    slots, notices = annotation.from_json(row, text)
                except AnnotationError as error:
                    found.problems.append(f"{place}: {error}")
                else:
                    found.examples.append(Example(text.strip(), intent, place, slots))
                    found.notices += (f"{place}: {notice}" for notice in notices)
            case dict() if rules := _rules_in(row):
                problems = [f"{place}: {p}" for rule in rules for p in rule_problems(*rule)]
                found.problems += problems
                found.rules += rules
            case _:
                found.problems.append(f'{place}: expected {{"text": "...", "intent": "..."}}')


def _rules_in(row: dict[str, Any]) -> list[Rule]:
    """{"synonym": value, "examples": [...]}, and likewise "regex" and "lookup"."""
    for kind in RULE_KINDS:
        match row.get(kind), row.get("examples"):
            case str(name), [*texts] if all(isinstance(text, str) for text in texts):
                return [(kind, name, text) for text in texts]
    return []


def _read_csv(content: str, name: str, found: FileContent) -> None:
    """Texts are taken as they stand: a table is no place for annotations."""
    reader = csv.DictReader(io.StringIO(content, newline=""), strict=True)
    number = 1
    try:
        header = reader.fieldnames or []
        if not {"text", "intent"} <= set(header):
            raise TrainingDataError([f"{name}:1: the first line must name the columns text,intent"])
        number = reader.line_num + 1  # where the next row begins; quoted texts may hold newlines
        for row in reader:
            text, intent = row["text"], row["intent"]
            place = f"{name}:{number}"
            if text is None or intent is None:
                found.problems.append(f"{place}: too few columns; quote texts that hold commas")
            elif None in row:
                found.problems.append(f"{place}: too many columns; quote texts that hold commas")
            else:
                text, intent = _without_guard(text), _without_guard(intent)
                found.examples.append(Example(text.strip(), intent, place))
            number = reader.line_num + 1
    except csv.Error as error:
        found.problems.append(f"{name}:{number}: not valid CSV ({error}); correct the quotes")


READERS: dict[str, Callable[[str, str, FileContent], None]] = {
    ".yml": _read_rasa,
    ".yaml": _read_rasa,
    ".jsonl": _read_jsonl,
    ".csv": _read_csv,
}


def write(data: TrainingSet, path: str | os.PathLike[str]) -> None:
    """Writes one file; its ending names the format, as in `read`. Raises TrainingDataError for
    what the format cannot hold."""
    path = Path(path)
    writer = WRITERS.get(path.suffix.lower())
    if writer is None:
        raise TrainingDataError([f"{path}: unknown ending; name it {', '.join(WRITERS)}"])
    try:
        content = writer(data.examples + data.out_of_scope, data.slot_rules)
    except AnnotationError as error:
        raise TrainingDataError([f"{path}: {error}"]) from error
    path.write_text(content, encoding="utf-8", newline="")


def _write_rasa(examples: Sequence[Example], rules: SlotRules) -> str:
    return rasa.dump(((e.text, e.intent, e.slots) for e in examples), rules)


def _write_jsonl(examples: Sequence[Example], rules: SlotRules) -> str:
    rows: list[dict[str, Any]] = [
        {"text": example.text, "intent": example.intent, **annotation.to_json(example.slots)}
        for example in examples
    ]
    texts_of: dict[tuple[str, str], list[str]] = defaultdict(list)
    for kind, name, text in rules.rows():
        texts_of[kind, name].append(text)
    rows += [{kind: name, "examples": texts} for (kind, name), texts in texts_of.items()]
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _write_csv(examples: Sequence[Example], rules: SlotRules) -> str:
    if rules or any(example.slots for example in examples):
        raise AnnotationError("CSV cannot hold slots; write .jsonl or .yml")
    file = io.StringIO(newline="")
    writer = csv.writer(file)  # its line ending, \r\n, makes it quote either half inside a text
    writer.writerow(["text", "intent"])
    writer.writerows((_guarded(example.text), _guarded(example.intent)) for example in examples)
    return file.getvalue()


def _guarded(cell: str) -> str:
    """A spreadsheet computes what begins like a formula, and a formula can send data away; an
    apostrophe in front makes it text. So that reading gives the same back, a cell that has one
    in front of a formula gets another."""
    return f"'{cell}" if _FORMULA.match(cell) else cell


def _without_guard(cell: str) -> str:
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell[1:]) else cell


_FORMULA = re.compile(r"[\s'\"]*[=+\-@|%＝＋－＠％\t\r\n]")
"""Also behind blanks and apostrophes, and in full width, as some spreadsheets read them."""


WRITERS = {
    ".yml": _write_rasa,
    ".yaml": _write_rasa,
    ".jsonl": _write_jsonl,
    ".csv": _write_csv,
}


def lint(data: TrainingSet) -> list[Problem]:
    """Errors make training impossible or senseless; warnings make it worse. Errors first."""
    examples_of: dict[str, list[Example]] = defaultdict(list)
    for example in data.examples:
        examples_of[example.intent].append(example)
    problems = [
        *_lint_intents(examples_of),
        *_lint_rules(data.slot_rules),
        *(p for example in data.examples + data.out_of_scope for p in _lint_example(example)),
        *_lint_repetitions(data.examples + data.out_of_scope),
    ]
    return sorted(problems, key=lambda problem: problem.severity)  # stable; "error" < "warning"


def _lint_intents(examples_of: dict[str, list[Example]]) -> Iterable[Problem]:
    if not examples_of:
        yield Problem("error", "", "there are no examples; add at least two intents")
    elif len(examples_of) == 1:
        only = next(iter(examples_of))
        yield Problem("error", only, "the only intent; add a second one to tell it from")
    for intent, examples in examples_of.items():
        source = examples[0].source
        if not intent.strip() or intent != intent.strip() or not intent.isprintable():
            message = f"the intent's name {intent!r} is blank or has stray white space; rename it"
            yield Problem("error", intent, message, source)
        count = len({_spelling(example.text) for example in examples})
        if count < FEWEST_EXAMPLES:
            message = f"intent {intent!r} needs at least {FEWEST_EXAMPLES} different examples"
            yield Problem("error", intent, message, source)
        elif count < ADVISED_EXAMPLES:
            message = f"intent {intent!r} has {count} examples; {ADVISED_EXAMPLES} or more work"
            yield Problem("warning", intent, f"{message} much better", source)


def _lint_example(example: Example) -> Iterable[Problem]:
    if not normalize(example.text):
        yield Problem("error", example.intent, "an empty example; remove it", example.source)
    if len(example.text) > LONGEST_TEXT_CHARACTERS:
        message = f"over {LONGEST_TEXT_CHARACTERS:,} characters; only its beginning is read"
        yield Problem("warning", example.intent, message, example.source)
    if any("\ud800" <= character <= "\udfff" for character in example.text):
        message = "holds half a character (a lone surrogate); type it again"
        yield Problem("error", example.intent, message, example.source)
    for problem in annotation.problems_of(example.text, example.slots):
        yield Problem("error", example.intent, problem, example.source)
    if example.slots:
        yield from _lint_places(example)


def _lint_places(example: Example) -> Iterable[Problem]:
    tokens = tokenize_with_spans(example.text)
    starts, ends = {start for _, start, _ in tokens}, {end for _, _, end in tokens}
    for slot in example.slots:
        shown = f"slot {slot.name!r}, {example.text[slot.start : slot.end][:60]!r},"
        if not any(start < slot.end and slot.start < end for _, start, end in tokens):
            message = f"{shown} holds no word that is read; remove or shorten it"
            yield Problem("warning", example.intent, message, example.source)
        elif slot.start not in starts or slot.end not in ends:
            message = f"{shown} begins or ends inside a word; only whole words are found"
            yield Problem("warning", example.intent, message, example.source)


def _lint_rules(rules: SlotRules) -> Iterable[Problem]:
    for rule in rules.rows():
        yield from (Problem("error", "", problem) for problem in rule_problems(*rule))
    value_of: dict[str, str] = {}
    for text, value in rules.synonyms:
        before = value_of.setdefault(normalize(text), value)
        if before != value:
            message = f"synonym {text!r} stands for {before!r} and {value!r}; keep one"
            yield Problem("warning", "", message)


def _lint_repetitions(examples: Sequence[Example]) -> Iterable[Problem]:
    first_with: dict[str, Example] = {}
    for example in examples:
        first = first_with.setdefault(_spelling(example.text), example)
        if first is example or not _spelling(example.text):
            continue
        before = f" (first at {first.source})" if first.source else ""
        if first.intent == example.intent:
            message = f"intent {example.intent!r} has this example twice{before}; remove one"
        else:
            message = (
                f"the same text stands under {first.intent!r} and {example.intent!r}{before}; "
                "keep it under one"
            )
        yield Problem("warning", example.intent, message, example.source)


def _spelling(text: str) -> str:
    return normalize(text)


def split(
    data: TrainingSet, *, held_out: float = 0.2, seed: int = 0
) -> tuple[TrainingSet, TrainingSet]:
    """(kept, held out). The share `held_out` of every intent, and of the out-of-scope examples.

    A hash of the text decides, so that a new example moves none of another intent and at most
    its neighbours of its own. Equal texts stay together; every intent keeps an example.
    """
    kept: list[Example] = []
    apart: list[Example] = []
    by_intent: dict[str, dict[str, list[Example]]] = defaultdict(lambda: defaultdict(list))
    for example in data.examples + data.out_of_scope:
        by_intent[example.intent][_spelling(example.text)].append(example)
    for texts in by_intent.values():
        wanted = round(held_out * sum(map(len, texts.values())))
        ordered = sorted(texts, key=lambda text: _draw(text, seed))
        for text in ordered[:-1]:
            (apart if wanted > 0 else kept).extend(texts[text])
            wanted -= len(texts[text])
        kept += texts[ordered[-1]]
    rules = data.slot_rules
    return training_set(kept, slot_rules=rules), training_set(apart, slot_rules=rules)


def folds(data: TrainingSet, count: int, *, seed: int = 0) -> list[tuple[TrainingSet, TrainingSet]]:
    """Pairs (kept, held out); each example is held out once. Equal texts stay together, and
    every intent of several texts keeps some."""
    fold_of: dict[str, int] = {}
    texts_of: dict[str, set[str]] = defaultdict(set)
    examples = data.examples + data.out_of_scope
    for example in examples:
        texts_of[example.intent].add(_spelling(example.text))
    for intent in sorted(texts_of):
        for place, text in enumerate(sorted(texts_of[intent], key=lambda text: _draw(text, seed))):
            fold_of.setdefault(text, place % count)
    rules = data.slot_rules
    pairs = []
    for number in range(count):
        kept = [one for one in examples if fold_of[_spelling(one.text)] != number]
        apart = [one for one in examples if fold_of[_spelling(one.text)] == number]
        pairs.append((training_set(kept, (), rules), training_set(apart, (), rules)))
    return pairs


def _draw(text: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}\0{text}".encode()).digest()


def data_hash(data: TrainingSet) -> str:
    """Equal for equal examples, whatever their order and sources."""
    rows = sorted(
        json.dumps([example.intent, example.text, *annotation.to_json(example.slots).values()])
        for example in data.examples + data.out_of_scope
    )
    rows += sorted(map(json.dumps, data.slot_rules.rows()))
    return hashlib.sha256("\n".join(rows).encode()).hexdigest()
