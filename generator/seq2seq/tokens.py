"""Text as numbers: a byte-level BPE of the operator's own words (Sennrich et al. 2016).

Every byte is a token, so nothing is unrepresentable. Imports no torch.
"""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from generator.interface import ChatMessage
from generator.prompt import speakable

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# Numbers of our own below the tokenizer's: no text that anybody types can become one of them.
PAD, BEGIN, END, USER, ASSISTANT = range(5)
SPECIAL = 5
UNSPEAKABLE = (PAD, BEGIN, USER, ASSISTANT)
SPEAKERS = {"user": USER, "assistant": ASSISTANT}


class Tokens:
    def __init__(self, tokenizer: "Tokenizer") -> None:
        self._tokenizer = tokenizer

    @classmethod
    def learn(cls, texts: Iterable[str], *, size: int) -> "Tokens":
        """At most `size` tokens, those of single bytes and the special ones included."""
        from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=size - SPECIAL,
            min_frequency=2,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        tokenizer.train_from_iterator(texts, trainer)
        return cls(tokenizer)

    @classmethod
    def from_json(cls, content: str) -> "Tokens":
        from tokenizers import Tokenizer

        return cls(Tokenizer.from_str(content))

    def to_json(self) -> str:
        return str(self._tokenizer.to_str(pretty=False))

    def __len__(self) -> int:
        return int(self._tokenizer.get_vocab_size()) + SPECIAL

    def encode(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(speakable(text)).ids
        return [number + SPECIAL for number in ids]

    def decode(self, ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode([one - SPECIAL for one in ids if one >= SPECIAL]))

    def context(self, messages: Sequence[ChatMessage], *, most: int) -> list[int]:
        """The last turns, each after its speaker; of what does not fit, the end is kept."""
        ids: list[int] = []
        for message in reversed(messages):
            if message.role in SPEAKERS:
                ids = [SPEAKERS[message.role], *self.encode(message.text), *ids]
            if len(ids) >= most:
                break
        return ids[-most:]

    def reply(self, text: str, *, most: int) -> list[int]:
        """Of a longer reply the beginning, which then has no end."""
        return [*self.encode(text), END][:most]


def words(tokens: Tokens, ids: Sequence[int]) -> list[tuple[str, list[int]]]:
    """Each word, and the places of the tokens that it is made of."""
    found: list[tuple[str, list[int]]] = []
    for place, one in enumerate(ids):
        text = tokens.decode([one]) if one >= SPECIAL else NAMES[one]
        if found and one >= SPECIAL and not text[:1].isspace() and ids[place - 1] >= SPECIAL:
            found[-1][1].append(place)
        else:
            found.append((text, [place]))
    return [
        (tokens.decode([ids[n] for n in places]).strip() or text, places) for text, places in found
    ]


NAMES = {END: "■", USER: "user:", ASSISTANT: "assistant:", PAD: "", BEGIN: ""}
