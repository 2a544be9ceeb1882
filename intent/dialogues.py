"""Conversations with an intent for each thing that people say, as public collections have them."""

import gzip
import json
import random
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from intent.data import Example
from intent.interface import TrainingDataError

FEWEST_OPENING_WORDS = 5
"""Shorter utterances ("yes, please") mean nothing by themselves: nobody gives them as examples."""


@dataclass(frozen=True, slots=True)
class Utterance:
    """`intents`: those that it may be given; none where it is about nothing. `turns_away`: they
    are others than those of the utterances before."""

    text: str
    intents: tuple[str, ...]
    turns_away: bool


@dataclass(frozen=True, slots=True)
class Dialogue:
    id: str
    services: tuple[str, ...]
    utterances: tuple[Utterance, ...]
    """What the user says."""


def read_dialogues(path: Path) -> list[Dialogue]:
    """JSON lines `{id, services, turns: [{speaker, text, intents}]}`, gzipped or not, such as the
    Schema-Guided Dialogue collection. Raises TrainingDataError."""
    found = []
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                try:
                    found.append(_dialogue(json.loads(line)))
                except (ValueError, KeyError, TypeError, AttributeError):
                    problem = f"{path}:{number}: no dialogue; mend or remove the line"
                    raise TrainingDataError([problem]) from None
    except (OSError, UnicodeDecodeError) as error:
        raise TrainingDataError([f"{path}: cannot be read ({error}); check it"]) from error
    return found


def openings(dialogues: Iterable[Dialogue], *, most: int, seed: int) -> list[Example]:
    """Utterances with which people come to an intent, at the beginning of a dialogue or from
    another one: at most so many of each, drawn at random."""
    opening: dict[str, set[str]] = defaultdict(set)
    for dialogue in dialogues:
        for place, one in enumerate(dialogue.utterances):
            comes_to_it = (one.turns_away or place == 0) and len(one.intents) == 1
            if comes_to_it and len(one.text.split()) >= FEWEST_OPENING_WORDS:
                opening[one.intents[0]].add(one.text)
    draw = random.Random(seed)
    return [
        Example(text, intent)
        for intent in sorted(opening)
        for text in _drawn(sorted(opening[intent]), most, draw)
    ]


def _drawn(texts: Sequence[str], most: int, draw: random.Random) -> list[str]:
    return draw.sample(texts, min(most, len(texts)))


def _dialogue(row: dict[str, object]) -> Dialogue:
    turns = row["turns"]
    assert isinstance(turns, list)
    utterances: list[Utterance] = []
    before: tuple[str, ...] | None = None
    for turn in turns:
        if turn["speaker"] != "user":
            continue
        intents = tuple(_ONE_NAME.get(one, one) for one in turn.get("intents", ()))
        new = tuple(one for one in intents if before is not None and one not in before)
        # Where two are active, one of which is new, the utterance is what brought it up.
        utterances.append(Utterance(str(turn["text"]), new or intents, bool(new)))
        before = intents or before
    services = tuple(str(one) for one in row["services"])  # type: ignore[attr-defined]
    return Dialogue(str(row["id"]), services, tuple(utterances))


_ONE_NAME = {
    "SearchHouse": "FindApartment",
    "GetEvents": "FindEvents",
    "GetEventDates": "FindEvents",
    "PlayMedia": "PlayMovie",
    "LookupMusic": "LookupSong",
}
"""Services of the Schema-Guided Dialogue collection that offer the same call it by different
names, which no assistant would do."""
