"""Slots marked in a text, as Rasa writes them: `to [Rome](city)`, `to [NYC]{"entity": "city"}`."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

OPENING = re.compile(r"\[([^\[\]\n]*)\](?=\(|\{|\[\s*\{)")
STRAY = re.compile(r"\](?:\([^()\n]*\)|\{\s*\"entity\"|\[\s*\{\s*\"entity\")")
KEYS = ("entity", "role", "group", "value")
SLOT_FIELDS = ("name", "start", "end", "role", "group", "value")
DECODER = json.JSONDecoder()


@dataclass(frozen=True, slots=True)
class AnnotatedSlot:
    """Characters `start` to `end` of an example's text. `value` is their canonical form, where
    it is not the text itself."""

    name: str
    start: int
    end: int
    role: str | None = None
    group: str | None = None
    value: str | None = None


@dataclass(frozen=True, slots=True)
class Annotated:
    text: str
    slots: tuple[AnnotatedSlot, ...] = ()
    notices: tuple[str, ...] = ()
    """What was well written and is not read."""


class AnnotationError(ValueError):
    """An annotation that cannot be read or written; says how to mend it."""


def parse(marked: str) -> Annotated:
    """The text without its marks and outer white space, and the slots in it.

    `[sic]` alone is text; what follows a bracket at once, as in `[Rome](`, must be an
    annotation. Raises AnnotationError.
    """
    pieces: list[str] = []
    slots: list[AnnotatedSlot] = []
    notices: list[str] = []
    length = place = 0
    while found := OPENING.search(marked, place):
        before, inner = marked[place : found.start()], found[1]
        _refuse_stray(before)
        fields, place, more = _read_fields(marked, found.end(), shown=marked[found.start() :])
        value = inner.strip()
        if not value:
            raise AnnotationError(
                f"{_shortened(found[0])} marks no text; write the value between the brackets"
            )
        start = length + len(before) + inner.index(value)
        slots.append(AnnotatedSlot(start=start, end=start + len(value), **fields))
        if more:
            notices.append(f"only the first entity of {_shortened(found[0])} is read")
        pieces += [before, inner]
        length += len(before) + len(inner)
    _refuse_stray(marked[place:])
    text = "".join([*pieces, marked[place:]])
    shift = len(text) - len(text.lstrip())
    moved = tuple(_moved(slot, -shift) for slot in slots) if shift else tuple(slots)
    return Annotated(text.strip(), moved, tuple(notices))


def mark(text: str, slots: Sequence[AnnotatedSlot]) -> str:
    """The inverse of `parse`. Raises AnnotationError for what Rasa's notation cannot express:
    a slot with brackets or white space at its ends, a text that itself looks like a mark."""
    pieces: list[str] = []
    place = 0
    for slot in sorted(slots, key=lambda slot: slot.start):
        pieces += [text[place : slot.start], f"[{text[slot.start : slot.end]}]", _fields(slot)]
        place = slot.end
    marked = "".join([*pieces, text[place:]])
    try:
        faithful = parse(marked) == Annotated(text, tuple(sorted(slots, key=lambda s: s.start)))
    except AnnotationError:
        faithful = False
    if not faithful:
        raise AnnotationError(
            f"{_shortened(text)} cannot be written with its slots in Rasa's notation, because of "
            "its brackets or white space; write JSONL"
        )
    return marked


def from_json(
    row: Mapping[str, Any], text: str
) -> tuple[tuple[AnnotatedSlot, ...], tuple[str, ...]]:
    """Slots and notices of a row with `slots`, a list of places in `text`, or `tags`, one BIO tag
    per word between blanks. Places are then those in the text without outer white space. Raises
    AnnotationError."""
    notices: tuple[str, ...] = ()
    if "slots" in row and "tags" in row:
        raise AnnotationError("has both `slots` and `tags`; keep one of them")
    if "slots" in row:
        if not isinstance(row["slots"], list):
            raise AnnotationError("`slots` must be a list of objects with name, start and end")
        slots = [_slot_from_json(found) for found in row["slots"]]
    elif "tags" in row:
        slots, notices = _slots_from_tags(row["tags"], text)
    else:
        return (), ()
    if problems := problems_of(text, slots):
        raise AnnotationError(problems[0])
    slots = [_trimmed(slot, text) for slot in sorted(slots, key=lambda slot: slot.start)]
    shift = len(text) - len(text.lstrip())
    return tuple(_moved(slot, -shift) for slot in slots), notices


def to_json(slots: Sequence[AnnotatedSlot]) -> dict[str, Any]:
    """{"slots": [...]}, or nothing where there are none."""
    rows = [
        {name: value for name, value in asdict(slot).items() if value is not None} for slot in slots
    ]
    return {"slots": rows} if rows else {}


def problems_of(text: str, slots: Sequence[AnnotatedSlot]) -> list[str]:
    """What is wrong with slots that were given by their places."""
    problems = []
    end = 0
    for slot in sorted(slots, key=lambda slot: (slot.start, slot.end)):
        shown = f"slot {slot.name!r} at {slot.start}-{slot.end}"
        if not (0 <= slot.start < slot.end <= len(text)):
            problems.append(f"{shown} lies outside the text of {len(text)} characters; correct it")
        elif not text[slot.start : slot.end].strip():
            problems.append(f"{shown} marks no text; correct it")
        elif slot.start < end:
            problems.append(f"{shown} overlaps another; keep one of them")
        end = max(end, slot.end)
        problems += name_problems(slot.name)
    return problems


def name_problems(name: str) -> list[str]:
    """Slot names travel through file formats, addresses and labels."""
    if name != name.strip() or not name or not name.isprintable() or set(name) & set('[](){}:"'):
        return [
            f"{name!r} cannot name a slot; use letters, digits, blanks, `_`, `-`, `.` and the like"
        ]
    return []


def _slot_from_json(found: Any) -> AnnotatedSlot:
    if not isinstance(found, dict) or not set(found) <= {*SLOT_FIELDS}:
        raise AnnotationError(f"a slot is an object with {', '.join(SLOT_FIELDS)}")
    for key, value in found.items():
        kind = int if key in {"start", "end"} else str
        if not isinstance(value, kind) or isinstance(value, bool) or value == "":
            wanted = "a number of characters" if kind is int else "text, and not empty"
            raise AnnotationError(f"a slot's {key!r} must be {wanted}")
    if missing := {"name", "start", "end"} - set(found):
        raise AnnotationError(f"a slot lacks {', '.join(sorted(missing))}; add it")
    return AnnotatedSlot(**found)


def _slots_from_tags(tags: Any, text: str) -> tuple[list[AnnotatedSlot], tuple[str, ...]]:
    if not isinstance(tags, str):
        raise AnnotationError('`tags` must be text such as "O B-city I-city"')
    words = [found.span() for found in re.finditer(r"\S+", text)]
    if len(words) != len(tags.split()):
        raise AnnotationError(
            f"{len(words)} words and {len(tags.split())} tags; give each word between blanks a tag"
        )
    slots: list[AnnotatedSlot] = []
    notices: list[str] = []
    before = "O"
    for tag, (start, end) in zip(tags.split(), words, strict=True):
        prefix, dash, name = tag.partition("-")
        if tag != "O" and (prefix not in {"B", "I"} or not dash or not name):
            raise AnnotationError(f"{tag[:40]!r} is no tag; write O, B-slot or I-slot")
        if prefix == "I" and before.partition("-")[2] == name:
            slots[-1] = replace(slots[-1], end=end)
        elif tag != "O":
            if prefix == "I":
                notices.append(f"{tag!r} follows {before!r}; read as the beginning of a slot")
            slots.append(AnnotatedSlot(name, start, end))
        before = tag
    return slots, tuple(notices)


def _trimmed(slot: AnnotatedSlot, text: str) -> AnnotatedSlot:
    marked = text[slot.start : slot.end]
    start = slot.start + len(marked) - len(marked.lstrip())
    return replace(slot, start=start, end=start + len(marked.strip()))


def _read_fields(marked: str, at: int, *, shown: str) -> tuple[dict[str, Any], int, bool]:
    """(fields of AnnotatedSlot, where the annotation ends, whether it names more entities)."""
    if marked[at] == "(":
        end = marked.find(")", at)
        inside = marked[at + 1 : end]
        if end < 0 or "\n" in inside:
            raise AnnotationError(f"{_shortened(shown)} has no `)`; write [value](slot)")
        name, colon, value = inside.partition(":")
        if colon and not value.strip():
            raise AnnotationError(f"{_shortened(shown)} has no value after the `:`; add it")
        return (
            {"name": _checked_name(name.strip(), shown), "value": value.strip() or None},
            (end + 1),
            False,
        )
    try:
        found, end = DECODER.raw_decode(marked, at)
    except (ValueError, RecursionError) as error:
        raise AnnotationError(
            f'{_shortened(shown)} is followed by broken JSON; write [value]{{"entity": "slot"}}'
        ) from error
    entities = found if isinstance(found, list) else [found]
    read = [_entity(entity, shown) for entity in entities]
    return read[0], end, len(read) > 1


def _entity(entity: Any, shown: str) -> dict[str, Any]:
    if not isinstance(entity, dict) or "entity" not in entity:
        raise AnnotationError(
            f'{_shortened(shown)} names no slot; write [value]{{"entity": "slot"}}'
        )
    for key, value in entity.items():
        if key not in KEYS:
            raise AnnotationError(
                f"{_shortened(shown)} has {key[:40]!r}; known are {', '.join(KEYS)}"
            )
        if isinstance(value, bool) or not isinstance(value, str | int | float) or value == "":
            raise AnnotationError(
                f"{_shortened(shown)}: {key!r} must be text in quotes, and not empty"
            )
    return {
        "name": _checked_name(str(entity["entity"]).strip(), shown),
        **{key: str(entity[key]) for key in ("role", "group", "value") if key in entity},
    }


def _checked_name(name: str, shown: str) -> str:
    if problems := name_problems(name):
        raise AnnotationError(f"{_shortened(shown)}: {problems[0]}")
    return name


def _fields(slot: AnnotatedSlot) -> str:
    if slot.role is None and slot.group is None and slot.value is None:
        return f"({slot.name})"
    given = {"role": slot.role, "group": slot.group, "value": slot.value}
    fields = {"entity": slot.name, **{k: v for k, v in given.items() if v is not None}}
    return json.dumps(fields, ensure_ascii=False)


def _refuse_stray(text: str) -> None:
    if found := STRAY.search(text):
        raise AnnotationError(
            f"{_shortened(text[found.start() :])} belongs to no `[value]`; annotations stand side "
            "by side, not inside one another"
        )


def _moved(slot: AnnotatedSlot, by: int) -> AnnotatedSlot:
    return replace(slot, start=slot.start + by, end=slot.end + by)


def _shortened(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:40] + "…")
