"""The sizes of a network. Imports no torch: whoever serves a network needs them too."""

from dataclasses import dataclass
from typing import Literal

Cell = Literal["rnn", "gru", "lstm"]
TAGGER_WIDTH = 128
CELLS: tuple[Cell, ...] = ("rnn", "gru", "lstm")


@dataclass(frozen=True, kw_only=True)
class NetworkShape:
    vocabulary: int
    intents: int
    cell: Cell = "gru"
    embedding: int = 128
    hidden: int = 128
    layers: int = 1
    directions: int = 2
    features: int = 256
    layer_norm: bool = False
    """Of the states of each time step, before they are pooled."""
    tags: int = 0
    """Labels of the slot tagger; 0 where there is none."""
    token_features: int = 0
    """What the tagger is told of each token beside the network's own view."""

    @property
    def states(self) -> int:
        """Width of what the recurrent layer gives for each token."""
        return self.directions * self.hidden

    def weights(self) -> dict[str, tuple[int, ...]]:
        """The size of each weight, by the names that PyTorch gives them; the tables of words
        and n-grams, the recurrent layer, the projection and the head."""
        from intent.text import NGRAM_BUCKETS

        gates = {"rnn": 1, "gru": 3, "lstm": 4}[self.cell] * self.hidden
        sizes: dict[str, tuple[int, ...]] = {
            "encoder.word_vectors.own.weight": (self.vocabulary + 1, self.embedding),
            "encoder.word_vectors.ngrams.weight": (NGRAM_BUCKETS, self.embedding),
        }
        for layer in range(self.layers):
            for direction in ("", "_reverse")[: self.directions]:
                end = f"_l{layer}{direction}"
                width = self.states if layer else self.embedding
                sizes |= {
                    f"encoder.recurrent.weight_ih{end}": (gates, width),
                    f"encoder.recurrent.weight_hh{end}": (gates, self.hidden),
                    f"encoder.recurrent.bias_ih{end}": (gates,),
                    f"encoder.recurrent.bias_hh{end}": (gates,),
                }
        if self.layer_norm:
            sizes |= {f"encoder.norm.{name}": (self.states,) for name in ("weight", "bias")}
        sizes |= {
            "encoder.projection.weight": (self.features, 2 * self.states),
            "encoder.projection.bias": (self.features,),
            "head.weight": (self.intents, self.features),
            "head.bias": (self.intents,),
        }
        if self.tags:
            inputs = self.states + self.embedding + self.token_features
            sizes |= {
                "tagger.mix.weight": (3 * TAGGER_WIDTH, inputs),
                "tagger.sentence.weight": (TAGGER_WIDTH, self.features),
                "tagger.sentence.bias": (TAGGER_WIDTH,),
                "tagger.output.weight": (self.tags, TAGGER_WIDTH),
                "tagger.output.bias": (self.tags,),
                "tagger.chain.transitions": (self.tags, self.tags),
                "tagger.chain.first": (self.tags,),
                "tagger.chain.last": (self.tags,),
            }
        return sizes
