"""Utterance in, one logit per intent out: word vectors, a recurrent layer, pooling, a head.

Shapes: B utterances, T tokens of the longest one, U distinct words in the batch, D embedding,
H hidden width per direction, F features, I intents.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from intent.noise import Noise
from intent.shape import NetworkShape
from intent.tagging import TagHead, TagShape
from intent.text import NGRAM_BUCKETS, Vocabulary, ngram_hashes

FIRST_DEVIATION = 0.3
CELLS: dict[str, type[nn.RNN] | type[nn.GRU] | type[nn.LSTM]] = {
    "rnn": nn.RNN,
    "gru": nn.GRU,
    "lstm": nn.LSTM,
}


@dataclass(frozen=True)
class Batch:
    """Utterances as numbers. Each distinct word is looked up once."""

    words: Tensor  # (U,) vocabulary number, 0 for an unknown word
    ngrams: Tensor  # flat n-gram buckets of all U words
    offsets: Tensor  # (U,) where each word's n-grams begin
    tokens: Tensor  # (B, T) index into the U words
    lengths: Tensor  # (B,) tokens per utterance, at least 1
    mask: Tensor  # (B, T) true where there is a token
    is_even: bool  # whether all utterances are equally long


class BatchBuilder:
    """Turns tokens into a `Batch`; remembers the n-grams of words it has seen."""

    def __init__(self, vocabulary: Vocabulary, *, cache_words: int = 50_000) -> None:
        self._vocabulary = vocabulary
        self._cache_words = cache_words
        self._known: dict[str, tuple[int, list[int]]] = {}

    def __call__(self, utterances: Sequence[Sequence[str]]) -> Batch:
        """No utterance may be without tokens."""
        positions: dict[str, int] = {}
        words: list[int] = []
        ngrams: list[int] = []
        offsets: list[int] = []
        longest = max(map(len, utterances))
        tokens = []
        for utterance in utterances:
            row = []
            for word in utterance:
                position = positions.get(word)
                if position is None:
                    position = positions[word] = len(words)
                    number, buckets = self._look_up(word)
                    words.append(number)
                    offsets.append(len(ngrams))
                    ngrams += buckets
                row.append(position)
            tokens.append(row + [0] * (longest - len(row)))
        lengths = torch.tensor([len(utterance) for utterance in utterances])
        return Batch(
            words=torch.tensor(words),
            ngrams=torch.tensor(ngrams),
            offsets=torch.tensor(offsets),
            tokens=torch.tensor(tokens),
            lengths=lengths,
            mask=torch.arange(longest) < lengths[:, None],
            is_even=bool((lengths == longest).all()),
        )

    def _look_up(self, word: str) -> tuple[int, list[int]]:
        found = self._known.get(word)
        if found is None:
            buckets = [value % NGRAM_BUCKETS for value in ngram_hashes(word)]
            found = self._vocabulary.number(word), buckets
            if len(self._known) >= self._cache_words:
                self._known.clear()
            self._known[word] = found
        return found


class WordVectors(nn.Module):
    """Half a word's own embedding, half the mean of its n-grams' (as in fastText, Bojanowski
    et al. 2017). An unknown word has its n-grams alone, so a typo lands near the right word."""

    def __init__(self, shape: NetworkShape) -> None:
        super().__init__()
        own = torch.empty(shape.vocabulary + 1, shape.embedding)
        ngrams = torch.empty(NGRAM_BUCKETS, shape.embedding)
        own.normal_(0, FIRST_DEVIATION)
        own[0] = 0
        ngrams.normal_(0, FIRST_DEVIATION)
        self.own = nn.Embedding(own.shape[0], own.shape[1], padding_idx=0, _weight=own)
        self.ngrams = nn.EmbeddingBag(ngrams.shape[0], ngrams.shape[1], mode="mean", _weight=ngrams)

    def forward(self, batch: Batch, noise: Noise | None = None) -> Tensor:
        """(U, D)"""
        own = self.own(batch.words)  # (U, D)
        ngrams = self.ngrams(batch.ngrams, batch.offsets)  # (U, D)
        known = (batch.words > 0)[:, None]
        if noise is not None and noise.estranged_words:
            # Shown as an unknown word is, a known one teaches its n-grams all that it means.
            known = known & (noise.mask(len(known), 1, drop=noise.estranged_words) > 0)
        return torch.where(known, 0.5 * (own + ngrams), ngrams)


class Encoder(nn.Module):
    """Utterances to features; knows nothing of intents, so it can be trained on other text."""

    def __init__(self, shape: NetworkShape) -> None:
        super().__init__()
        self.word_vectors = WordVectors(shape)
        self.recurrent = CELLS[shape.cell](
            shape.embedding,
            shape.hidden,
            num_layers=shape.layers,
            bidirectional=shape.directions == 2,
            batch_first=True,
        )
        # Each time step's states for themselves (Ba et al. 2016), after the recurrence: the
        # step from one state to the next stays as the cell defines it.
        self.norm = nn.LayerNorm(shape.states) if shape.layer_norm else None
        self.projection = nn.Linear(2 * shape.states, shape.features)

    def forward(self, batch: Batch, noise: Noise | None = None) -> Tensor:
        """(B, F)"""
        return self.read(batch, noise)[0]

    def read(self, batch: Batch, noise: Noise | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Features (B, F), the states that they come from (B, T, S), and the words' vectors
        (B, T, D)."""
        vectors = self.word_vectors(batch, noise)[batch.tokens]  # (B, T, D)
        if noise is not None:
            utterances, longest, width = vectors.shape
            # Locked: one mask for all time steps of an utterance (Gal and Ghahramani 2016).
            vectors = vectors * noise.mask(utterances, 1, width, drop=noise.embedding_dropout)
            vectors = vectors * noise.mask(utterances, longest, 1, drop=noise.word_dropout)
        states = self._recur(vectors, batch)
        if self.norm is not None:
            states = self.norm(states) * batch.mask[:, :, None]
        mean = states.sum(1) / batch.lengths[:, None]
        largest = states.masked_fill(~batch.mask[:, :, None], float("-inf")).amax(1)
        features: Tensor = self.projection(torch.cat([mean, largest], dim=1))
        return features, states, vectors

    def _recur(self, vectors: Tensor, batch: Batch) -> Tensor:
        """(B, T, H * directions), zero where there is no token."""
        states: Tensor
        if batch.is_even:  # packing would only cost time
            states, _ = self.recurrent(vectors)
        else:
            packed = pack_padded_sequence(
                vectors, batch.lengths, batch_first=True, enforce_sorted=False
            )
            states, _ = pad_packed_sequence(self.recurrent(packed)[0], batch_first=True)
        return states


class IntentNetwork(nn.Module):
    def __init__(self, shape: NetworkShape) -> None:
        super().__init__()
        self.shape = shape
        self.encoder = Encoder(shape)
        self.head = nn.Linear(shape.features, shape.intents)
        self.tagger: TagHead | None = None
        if shape.tags:
            self.tagger = TagHead(
                TagShape(
                    labels=shape.tags,
                    states=shape.states,
                    embedding=shape.embedding,
                    features=shape.features,
                    token_features=shape.token_features,
                )
            )

    def forward(self, batch: Batch, noise: Noise | None = None) -> tuple[Tensor, Tensor]:
        """Logits (B, I) and the features (B, F) before dropout."""
        features, _, _ = self.encoder.read(batch, noise)
        return self._judge(features, noise), features

    def tag(
        self, batch: Batch, token_features: Tensor, noise: Noise | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Logits (B, I), the features (B, F) before dropout, and scores of each token's labels
        (B, T, L); `token_features`: (B, T, K)."""
        assert self.tagger is not None
        features, states, vectors = self.encoder.read(batch, noise)
        scores = self.tagger(states, vectors, token_features, features, batch.mask, noise)
        return self._judge(features, noise), features, scores

    def _judge(self, features: Tensor, noise: Noise | None) -> Tensor:
        if noise is not None:
            features = features * noise.mask(*features.shape, drop=noise.feature_dropout)
        logits: Tensor = self.head(features)
        return logits
