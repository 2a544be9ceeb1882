"""From an utterance to words and n-gram numbers, for any script. Imports no torch."""

import re
import unicodedata
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

NGRAM_LENGTHS = (3, 4, 5)
NGRAM_BUCKETS = 8192
MAX_TOKENS = 128
MAX_CHARACTERS = 4_000
MAX_WORD_CHARACTERS = 40
"""Longer utterances and words are cut, so that no input costs more than milliseconds."""

ASCII_TOKEN = re.compile(r"[a-z]+|[!-`{-~]")  # after lower-casing: a word, or one other character

Tokens = Sequence[tuple[str, int, int]]
"""Tokens as `tokenize_with_spans` gives them: token, start, end."""

# Written without spaces between words: every character is a word of its own.
UNSPACED_SCRIPTS = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Myanmar
    (0x1780, 0x17FF),  # Khmer
    (0x2E80, 0x2FDF),  # Han radicals
    (0x3005, 0x3007),
    (0x3040, 0x30FF),  # Hiragana, Katakana
    (0x31F0, 0x31FF),
    (0x3400, 0x4DBF),  # Han
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0x20000, 0x3FFFF),
)


def tokenize(text: str) -> list[str]:
    """Words, single digits and single other characters, normalised; at most `MAX_TOKENS`."""
    text = normalize(text[:MAX_CHARACTERS])
    tokens = ASCII_TOKEN.findall(text) if _is_plain(text) else _tokenize_unicode(text)
    return [token[:MAX_WORD_CHARACTERS] for token in tokens[:MAX_TOKENS]]


def tokenize_with_spans(text: str) -> list[tuple[str, int, int]]:
    """The tokens of `tokenize`, each with the characters of `text` that it stands for.

    A cut word's span covers the whole word. Spans lie apart, in order, except that tokens which
    share a character ("½" is three) have the same span.
    """
    text = text[:MAX_CHARACTERS]
    if _is_plain(text):
        found = [(m[0], m.start(), m.end()) for m in ASCII_TOKEN.finditer(text.lower())]
    else:
        found = _unicode_tokens_with_spans(text)
    return [(token[:MAX_WORD_CHARACTERS], start, end) for token, start, end in found[:MAX_TOKENS]]


def normalize(text: str) -> str:
    """One spelling for what readers take as the same text; runs of white space become one blank.

    NFKC and case folding as in Unicode's D146, without what nobody sees: zero-width and
    bidirectional controls, tags, fillers. Text that such controls show in another order is read
    in the order in which it was typed.
    """
    if not _is_plain(text):
        text = _folded("".join(_visible(character) for character in text))
    return " ".join(text.lower().split())


def _folded(text: str) -> str:
    text = unicodedata.normalize("NFD", text).casefold()
    text = unicodedata.normalize("NFKC", text).casefold()
    return unicodedata.normalize("NFKC", text)


def is_invisible(character: str) -> bool:
    """Does it stand between letters without being seen? White space does not."""
    category = unicodedata.category(character)
    if category == "Cc":
        return not character.isspace()
    return category == "Cf" or any(first <= character <= last for first, last in _INVISIBLE)


# Unicode's Default_Ignorable_Code_Point, as far as it is of another category than Cf.
_INVISIBLE = (
    ("\u034f", "\u034f"),  # combining grapheme joiner
    ("\u115f", "\u1160"),  # Hangul fillers
    ("\u17b4", "\u17b5"),  # Khmer inherent vowels
    ("\u180b", "\u180f"),  # Mongolian variation selectors
    ("\u2065", "\u2065"),
    ("\u3164", "\u3164"),  # Hangul filler
    ("\ufe00", "\ufe0f"),  # variation selectors choose between drawings of one emoji
    ("\uffa0", "\uffa0"),  # half-width Hangul filler
    ("\ufff0", "\ufff8"),
    ("\U000e0000", "\U000e0fff"),  # tags, more variation selectors
)


def _is_plain(text: str) -> bool:
    """Nothing in it but printable ASCII: the quick ways are right."""
    return text.isascii() and text.isprintable()


def _visible(character: str) -> str:
    if "\ud800" <= character <= "\udfff":  # half a surrogate pair cannot be encoded
        return "\N{REPLACEMENT CHARACTER}"
    return "" if is_invisible(character) else character


def _tokenize_unicode(text: str) -> list[str]:
    tokens: list[str] = []
    extends = False  # the last token is a word that a further letter continues
    for character in text:
        kind = unicodedata.category(character)[0]
        if kind == "M" and tokens:  # a combining mark belongs to whatever it stands on
            tokens[-1] += character
        elif kind == "L" and not _is_unspaced(character):
            if extends:
                tokens[-1] += character
            else:
                tokens.append(character)
            extends = True
        else:
            extends = False
            if kind not in "ZC":
                tokens.append(character)
    return tokens


def _unicode_tokens_with_spans(text: str) -> list[tuple[str, int, int]]:
    folded: list[str] = []
    places: list[tuple[int, int]] = []  # of each folded character, in `text`
    for start, end, piece in _foldable_pieces(text):
        lowered = _folded(piece).lower()
        folded.append(lowered)
        places += [(start, end)] * len(lowered)
    spelled = "".join(folded)
    found: list[tuple[str, int, int]] = []
    at = 0
    for token in _tokenize_unicode(spelled):
        # What lies between tokens is white space and control characters, which no token holds:
        # the next equal character is the token's.
        first = at = spelled.index(token[0], at)
        for character in token:
            at = spelled.index(character, at) + 1
        start, end = places[first][0], places[at - 1][1]
        if found and start < found[-1][2]:
            start = found[-1][1]
            sharing = next(n for n, (_, other, _) in enumerate(found) if other == start)
            found[sharing:] = [(one, start, end) for one, _, _ in found[sharing:]]
        found.append((token, start, end))
    return found


def _foldable_pieces(text: str) -> Iterator[tuple[int, int, str]]:
    """(start, end, visible characters) of pieces that fold on their own to the same as in place:
    a character, and what may be composed with it or change places behind it."""
    start, end, piece = 0, 0, ""
    for place, character in enumerate(text):
        seen = _visible(character)
        if not seen:
            continue
        if piece and not _clings(seen, piece[-1]):
            yield start, end, piece
            piece = ""
        if not piece:
            start = place
        piece += seen
        end = place + 1
    if piece:
        yield start, end, piece


def _clings(character: str, before: str) -> bool:
    if character.isascii():
        return False
    parts = unicodedata.normalize("NFKD", character)
    if unicodedata.combining(parts[0]) or all(unicodedata.category(one)[0] == "M" for one in parts):
        return True
    return _is_jamo(parts[0]) and _is_jamo(unicodedata.normalize("NFKD", before)[-1])


def _is_jamo(character: str) -> bool:
    """Of the letters that Hangul syllables are composed of."""
    return "\u1100" <= character <= "\u11ff"


def _is_unspaced(character: str) -> bool:
    code = ord(character)
    return any(first <= code <= last for first, last in UNSPACED_SCRIPTS)


def is_word(token: str) -> bool:
    """False for punctuation, which says nothing about a subject."""
    return not unicodedata.category(token[0]).startswith("P")


def ngram_hashes(word: str) -> list[int]:
    """CRC-32 of the word's character n-grams, with `<` and `>` marking its ends; never empty."""
    marked = f"<{word}>"
    return [
        zlib.crc32(marked[start : start + length].encode())
        for length in NGRAM_LENGTHS
        for start in range(len(marked) - length + 1)
    ]


@dataclass(frozen=True)
class Vocabulary:
    """Words with an embedding of their own, numbered from 1; 0 stands for every other word."""

    words: tuple[str, ...]

    @cached_property
    def numbers(self) -> dict[str, int]:
        return {word: number for number, word in enumerate(self.words, start=1)}

    def number(self, word: str) -> int:
        return self.numbers.get(word, 0)


def build_vocabulary(tokenized: Iterable[Sequence[str]], *, min_count: int) -> Vocabulary:
    """Words seen at least `min_count` times, in an order that depends on the set alone."""
    counts = Counter(token for tokens in tokenized for token in tokens)
    return Vocabulary(tuple(sorted(word for word, n in counts.items() if n >= min_count)))
