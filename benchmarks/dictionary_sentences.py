"""Text for pre-training out of a dictionary and of small talk.

    python -m benchmarks.dictionary_sentences --wordnet DICT [--dialogues FILE] \\
        [--without DATA…] -o FILE

DICT is the folder of WordNet 3.0's data.noun, data.verb, data.adj and data.adv (Debian's package
wordnet-base has it). Every definition, example and lower-case lemma becomes a sentence; so does
every turn of FILE, JSON lines as `{"turns": [{"text"}]}`. No sentence of DATA is written, so that
nobody trains on what is measured later.
"""

import argparse
import gzip
import json
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from intent.data import read
from intent.text import tokenize

LONGEST_WORDS = 40
SHORTEST_LEMMA = 3


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--wordnet", type=Path, required=True, metavar="DICT")
    parser.add_argument("--dialogues", type=Path, metavar="FILE")
    parser.add_argument("--without", nargs="+", default=[], metavar="DATA")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE")
    options = parser.parse_args()
    sentences = list(wordnet_sentences(options.wordnet))
    if options.dialogues:
        sentences += turns(options.dialogues)
    avoided = read(options.without) if options.without else None
    banned = {spelling(example.text) for example in avoided.examples} if avoided else set()
    kept = {
        text: source
        for text, source in dict(reversed(sentences)).items()
        if (words := tokenize(text))
        and len(words) <= LONGEST_WORDS
        and spelling(text) not in banned
    }
    with (gzip.open if options.output.suffix == ".gz" else open)(options.output, "wt") as file:
        for text, source in kept.items():
            file.write(json.dumps({"text": text, "source": source}, ensure_ascii=False) + "\n")
    print(f"{len(kept):,} sentences", file=sys.stderr)
    return 0


def wordnet_sentences(folder: Path) -> Iterator[tuple[str, str]]:
    for part in ("noun", "verb", "adj", "adv"):
        with (folder / f"data.{part}").open(encoding="latin-1") as file:
            for line in file:
                if not line.startswith("  "):  # the licence stands indented at the top
                    yield from synset_sentences(line)


def synset_sentences(line: str) -> Iterator[tuple[str, str]]:
    """A line of WordNet's wndb(5): offset, file, type, the number of words in hexadecimal, each
    word with a number, …, then `| definition; "example"; …`."""
    head, _, gloss = line.partition("| ")
    fields = head.split()
    definition = gloss.partition('"')[0].strip(" ;\n")
    if " " in definition:
        yield tidy(definition), "wordnet definition"
    for example in re.findall(r'"([^"]+)"', gloss):
        if " " in example:
            yield tidy(example), "wordnet example"
    for place in range(int(fields[3], 16)):
        lemma = fields[4 + 2 * place].partition("(")[0].replace("_", " ")
        if lemma == lemma.lower() and len(lemma) >= SHORTEST_LEMMA:
            yield lemma, "wordnet lemma"


def turns(path: Path) -> Iterable[tuple[str, str]]:
    with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8") as file:
        for line in file:
            for turn in json.loads(line)["turns"]:
                yield tidy(turn["text"]), "dialogue"


def tidy(text: str) -> str:
    return " ".join(text.replace("`", "'").split())


def spelling(text: str) -> str:
    return " ".join(tokenize(text))


if __name__ == "__main__":
    sys.exit(main())
