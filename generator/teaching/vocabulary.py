"""Which of the base's tokens are worth their place in the file: those that people write."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from generator.teaching.lesson import TeachingError, lines_of

CONTINUED = "##"
UNUSED = "[unused"
COUNTED_AT_ONCE = 2000


def count_tokens(tokenizer: Tokenizer, texts: Iterable[str]) -> Counter[str]:
    counts: Counter[str] = Counter()
    waiting: list[str] = []
    for text in texts:
        waiting.append(text)
        if len(waiting) == COUNTED_AT_ONCE:
            counts.update(_tokens(tokenizer, waiting))
            waiting = []
    counts.update(_tokens(tokenizer, waiting))
    return counts


def _tokens(tokenizer: Tokenizer, texts: list[str]) -> Iterator[str]:
    for encoding in tokenizer.encode_batch(texts, add_special_tokens=False):
        yield from encoding.tokens


def kept_tokens(
    content: Mapping[str, Any], counts: Mapping[str, int] | None, *, fewest: int
) -> list[int]:
    """Of a tokenizer.json the numbers of the tokens that were counted so often, of its special
    ones, and of every single character: with those any word can still be spelt. Without counts
    all that are used at all."""
    special = {one["content"] for one in content["added_tokens"]}

    def is_kept(token: str) -> bool:
        if token in special or len(token.removeprefix(CONTINUED)) == 1:
            return True
        return not token.startswith(UNUSED) if counts is None else counts.get(token, 0) >= fewest

    vocabulary: dict[str, int] = content["model"]["vocab"]
    return sorted(number for token, number in vocabulary.items() if is_kept(token))


def pruned(content: Mapping[str, Any], kept: Sequence[int]) -> dict[str, Any]:
    """The tokenizer.json with these tokens only, numbered anew in their order."""
    places = {number: place for place, number in enumerate(kept)}
    vocabulary = sorted(content["model"]["vocab"].items(), key=lambda item: item[1])
    model = {
        **content["model"],
        "vocab": {token: places[number] for token, number in vocabulary if number in places},
    }
    added = [{**one, "id": places[one["id"]]} for one in content["added_tokens"]]
    # Whoever serves it adds the special tokens, cuts and pads by itself.
    without = {"post_processor": None, "truncation": None, "padding": None}
    return {**content, **without, "model": model, "added_tokens": added}


def read_texts(files: Sequence[Path]) -> Iterator[str]:
    """Of `.jsonl` every string in every line, of other files every line; either may be gzipped.
    Raises TeachingError."""
    for file in files:
        is_json = ".jsonl" in file.suffixes
        for number, line in enumerate(lines_of(file), start=1):
            if not is_json:
                yield line
                continue
            try:
                yield from _strings(json.loads(line))
            except ValueError as error:
                raise TeachingError(f"{file}:{number}: no JSON; mend or remove it") from error


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for one in value.values():
            yield from _strings(one)
    elif isinstance(value, list):
        for one in value:
            yield from _strings(one)
