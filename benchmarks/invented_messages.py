"""Invented messages to assistants, help desks and bots: text to distil a sentence encoder on.

    python -m benchmarks.invented_messages --count 250000 --seed 0 -o FILE.jsonl[.gz]

Reads the lexicons in benchmarks/invented/ and writes unique lines {"text", "source"}; the same
lexicons, count and seed give the same file. benchmarks/invented/README.md says how to add words.
"""

import argparse
import gzip
import json
import random
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.inflection import (
    agreeing,
    agreeing_statement,
    gerund,
    indirect,
    participle,
    past,
    with_articles,
)

LEXICONS = Path(__file__).parent / "invented"
SECTIONS = ("do", "self", "bot", "ask", "oops", "thing", "fact", "say", "free")
# How often a line is built on each section, where an area has it. "say" lines stand alone.
WEIGHTS = {
    "do": 15,
    "self": 15,
    "bot": 15,
    "ask": 29,
    "oops": 17,
    "thing": 13,
    "say": 24,
    "free": 17,
}
# Which section fills which place in a carrier; actions ({do}, {doing} ...) come from three.
SOURCES = {
    "q": "ask",
    "iq": "ask",
    "p": "oops",
    "x": "thing",
    "bare": "thing",
    "fact": "fact",
    "s": "free",
    "sl": "free",
}
SAY_LINES = 3
MIXED_AREAS = 0.03
GREETED, THANKED = 0.05, 0.04
# The lexicons are used up when this many sentences in a row have been said before.
TRIES = 200


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--count", type=int, default=250_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    lexicon = read_lexicon(LEXICONS)
    messages = list(invent(lexicon, count=options.count, seed=options.seed))
    write(messages, options.output)
    print(report(messages), file=sys.stderr)
    return 0


@dataclass(frozen=True)
class Message:
    text: str
    area: str
    section: str


@dataclass
class Area:
    name: str
    lines: dict[str, list["Pattern"]] = field(default_factory=dict)
    slots: dict[str, "Pattern"] = field(default_factory=dict)


@dataclass(frozen=True)
class Lexicon:
    areas: tuple[Area, ...]
    carriers: Mapping[str, Sequence["Pattern"]]
    slots: Mapping[str, "Pattern"]


@dataclass(frozen=True)
class Slot:
    name: str


@dataclass(frozen=True)
class Choice:
    options: tuple["Pattern", ...]


# A line such as "book (a|the) room in $city": text, choices and slots, one after the other.
Pattern = tuple[str | Slot | Choice, ...]


def invent(lexicon: Lexicon, *, count: int, seed: int) -> Iterator[Message]:
    """Fewer than `count` messages come when the lexicons have no more to say."""
    rng = random.Random(seed)
    areas = lexicon.areas
    # A "say" line unfolds into many sentences, so it counts for several.
    sizes = [
        sum(SAY_LINES if name == "say" else 1 for name in area.lines for _ in area.lines[name])
        ** 0.7
        for area in areas
    ]
    seen: set[str] = set()
    misses = 0
    while len(seen) < count and misses < TRIES:
        (area,) = rng.choices(areas, sizes)
        section, sentence = Speaker(rng, lexicon, area).sentence()
        text = style(rng, sentence)
        key = re.sub(r"[^a-z0-9]+", " ", text.lower()).strip()
        if key in seen or len(key.split()) > 30 or re.search(r"\b(\w.{3,})( \w+)? \1$", key):
            misses += 1
            continue
        misses = 0
        seen.add(key)
        yield Message(text, area.name, section)


@dataclass(frozen=True)
class Speaker:
    rng: random.Random
    lexicon: Lexicon
    area: Area

    def sentence(self) -> tuple[str, str]:
        """The section that it is built on, and the sentence."""
        sections = [name for name in WEIGHTS if name in self.area.lines]
        (section,) = self.rng.choices(sections, [WEIGHTS[name] for name in sections])
        if section == "say":
            return section, tidy(self.draw("say"))
        carrier = self.carrier(section)
        if self.rng.random() < MIXED_AREAS:
            carrier = self.say(self.rng.choice(self.lexicon.carriers["mixed"]))
        return section, tidy(
            re.sub(r"\{(\w+)\}", lambda match: self.fill(match[1], section), carrier)
        )

    def carrier(self, section: str) -> str:
        """One that asks for nothing the area lacks, so that a sentence keeps to its subject."""
        while True:
            carrier = self.say(self.rng.choice(self.lexicon.carriers[section]))
            forms = set(re.findall(r"\{(\w+)\}", carrier))
            if all(SOURCES[form] in self.area.lines for form in forms & set(SOURCES)):
                return carrier

    def fill(self, form: str, section: str) -> str:
        """The text for {form} in a carrier; "other" forms come from any area."""
        if form.startswith("other_"):
            other = Speaker(self.rng, self.lexicon, self.rng.choice(self.lexicon.areas))
            return other.fill(form.removeprefix("other_"), section)
        of_action = {"doing": gerund, "done": participle, "did": past}
        if form == "do" or form in of_action:
            names = [name for name in (section, "do", "self") if name in ("do", "self", "bot")]
            phrase = self.draw(*names, "bot")
            return of_action[form](phrase) if form in of_action else phrase
        if form == "bare":
            return re.sub(r"^(my|the|an?|our|your|some) ", "", self.draw("thing"))
        text = self.draw(SOURCES[form])
        if form == "sl":
            return uncapitalised(text)
        if SOURCES[form] != "ask":
            return agreeing_statement(text) if form == "p" else text
        question = agreeing(text)
        return indirect(question) if form == "iq" else re.sub(r"[\[\]]", "", question)

    def draw(self, *sections: str) -> str:
        """A line of the first of these sections that the area has, of any area if it has none."""
        for section in sections:
            if section in self.area.lines:
                return with_articles(self.say(self.rng.choice(self.area.lines[section])))
        other = self.rng.choice([a for a in self.lexicon.areas if sections[0] in a.lines])
        return Speaker(self.rng, self.lexicon, other).draw(*sections)

    def say(self, pattern: Pattern) -> str:
        said = []
        for piece in pattern:
            if isinstance(piece, str):
                said.append(piece)
            elif isinstance(piece, Choice):
                said.append(self.say(self.rng.choice(piece.options)))
            else:
                slots = self.area.slots if piece.name in self.area.slots else self.lexicon.slots
                said.append(self.say(slots[piece.name]))
        return "".join(said)


def tidy(text: str) -> str:
    """A typed sentence: one space, a capital first, "I" in capitals."""
    text = re.sub(r"\s+([,.?!;:])", r"\1", " ".join(text.split()))
    text = re.sub(r"([?!.])[.?,]", r"\1", text)
    text = re.sub(r"\bi\b(?!\.)", "I", with_articles(text))
    return re.sub(r"(^|[.?!] )([a-z])", lambda match: match[1] + match[2].upper(), text)


GREETINGS = (
    "Hi, Hello, Hey, Hi there, Good morning, Hello there, Hey there, Good evening, Hiya, "
    "Quick question, Sorry to bother you, Excuse me, Dear team, Good afternoon, Hi team"
).split(", ")
THANKS = (
    "thanks / thank you / thx / cheers / many thanks / please / thanks in advance / asap please / "
    "please help / thanks a lot / ta / please and thank you / help / it's urgent / no rush"
).split(" / ")
HURRIED = {
    "you": "u",
    "please": "pls",
    "your": "ur",
    "are": "r",
    "because": "cuz",
    "tomorrow": "tmrw",
    "want to": "wanna",
    "going to": "gonna",
    "thanks": "thx",
    "message": "msg",
    "with": "w/",
    "without": "w/o",
    "and": "&",
    "for": "4",
    "minutes": "mins",
    "information": "info",
    "about": "abt",
    "I don't know": "idk",
    "something": "smth",
    "picture": "pic",
    "have to": "gotta",
}


def style(rng: random.Random, text: str) -> str:
    """The same sentence as somebody types it: polite, carefully, in lower case, in a hurry."""
    if rng.random() < GREETED:
        text = f"{rng.choice(GREETINGS)}, {uncapitalised(text)}"
    if rng.random() < THANKED:
        text = f"{text.rstrip('.')}{'' if text.endswith(('?', '!')) else ','} {rng.choice(THANKS)}"
    manner = rng.random()
    if manner < 0.30:
        return text
    if manner < 0.40:
        return text.rstrip(".?!")
    if manner < 0.92:
        text = text.lower()
        return re.sub(r"[.?!]+$", "", text) if manner < 0.82 else text
    text = text.lower().rstrip(".?!")
    if rng.random() < 0.6:
        text = text.replace("'", "")
    for long, short in HURRIED.items():
        if rng.random() < 0.5:
            text = re.sub(rf"\b{long}\b", short, text)
    return text if rng.random() < 0.6 else text.replace(",", "")


def uncapitalised(text: str) -> str:
    keep = re.match(r"I\b|[A-Z]{2}", text)
    return text if keep else text[:1].lower() + text[1:]


def read_lexicon(folder: Path) -> Lexicon:
    """Raises ValueError, with file and line, for a line that has no section or does not parse."""
    areas: dict[str, Area] = {}
    for path in sorted(folder.glob("*.txt")):
        area, section = Area(path.stem), ""
        for number, raw in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            line = raw.strip()
            if not line or line.startswith("#"):
                continue
            try:
                if line.startswith("== "):
                    area, section = areas.setdefault(line[3:], Area(line[3:])), ""
                elif slot := re.fullmatch(r"\$(\w+) = (.+)", line):
                    area.slots[slot[1]] = parse(f"({slot[2]})")
                elif re.fullmatch(r"[a-z]+:", line):
                    section = line[:-1]
                elif section:
                    bracketed = line.replace("[", "[(").replace("]", ")]")
                    area.lines.setdefault(section, []).append(parse(bracketed))
                else:
                    raise ValueError("a line before its section")
            except ValueError as error:
                raise ValueError(f"{path.name}:{number}: {error}: {line[:60]}") from error
    carriers, slots = areas.pop("carriers"), areas.pop("slots").slots
    for area in areas.values():
        check_area(area, slots)
    return Lexicon(tuple(areas.values()), carriers.lines, slots)


def check_area(area: Area, slots: Mapping[str, Pattern]) -> None:
    if unknown := set(area.lines) - set(SECTIONS):
        raise ValueError(f"{area.name} has unknown sections {unknown}; known: {SECTIONS}")
    known = {*slots, *area.slots}
    patterns = [*area.slots.values(), *(line for lines in area.lines.values() for line in lines)]
    if missing := {name for line in patterns for name in slot_names(line)} - known:
        raise ValueError(f"{area.name} uses slots that nothing defines: {missing}")


def slot_names(pattern: Pattern) -> Iterator[str]:
    for piece in pattern:
        if isinstance(piece, Slot):
            yield piece.name
        elif isinstance(piece, Choice):
            for option in piece.options:
                yield from slot_names(option)


def parse(text: str) -> Pattern:
    pattern, end = parse_from(text, 0)
    if end < len(text):
        raise ValueError("a bracket or bar stands alone")
    return pattern


def parse_from(text: str, start: int) -> tuple[Pattern, int]:
    """The pattern up to the end, or to the bar or bracket that closes this option."""
    pieces: list[str | Slot | Choice] = []
    at = start
    while at < len(text) and text[at] not in "|)":
        if text[at] == "(":
            options, closed = [], False
            while not closed:
                option, at = parse_from(text, at + 1)
                if at == len(text):
                    raise ValueError("a bracket stays open")
                options.append(option)
                closed = text[at] == ")"
            pieces.append(Choice(tuple(options)))
            at += 1
        elif (slot := re.compile(r"\$([a-z]\w*)").match(text, at)) is not None:
            pieces.append(Slot(slot[1]))
            at = slot.end()
        else:
            plain = re.compile(r"[^|()$]+|\$").match(text, at)
            assert plain
            pieces.append(plain[0])
            at = plain.end()
    return tuple(pieces), at


def write(messages: Iterable[Message], path: Path) -> None:
    lines = (json.dumps({"text": m.text, "source": "invented"}) + "\n" for m in messages)
    content = "".join(lines).encode()
    # No time stamp inside, so that equal lines give equal files.
    path.write_bytes(gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)


def report(messages: Sequence[Message]) -> str:
    words = Counter(w for m in messages for w in re.findall(r"[a-z]+(?:'[a-z]+)?", m.text.lower()))
    mean = sum(len(m.text.split()) for m in messages) / max(1, len(messages))
    areas = Counter(m.area for m in messages)
    free = sum(m.section == "free" for m in messages) / max(1, len(messages))
    shares = ", ".join(f"{n} {c / len(messages):.1%}" for n, c in areas.most_common())
    return (
        f"{len(messages)} unique messages, {len(words)} distinct words "
        f"({sum(c >= 5 for c in words.values())} at least 5 times), "
        f"{mean:.1f} words a message, {free:.0%} on sentences written in full, "
        f"{len(areas)} areas: {shares}"
    )


if __name__ == "__main__":
    raise SystemExit(main())
