"""How a network is trained; the defaults follow from validation sets."""

import math
from dataclasses import dataclass, replace

from intent.shape import Cell


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """The defaults suit 20 to 20,000 examples. `epochs` and `batch_size` follow their number
    unless given."""

    cell: Cell = "gru"
    directions: int = 2
    layers: int = 1
    embedding: int = 128
    hidden: int = 128
    features: int = 256
    layer_norm: bool = False
    min_word_count: int = 2
    epochs: int | None = None
    least_epochs: int = 25
    least_steps: int = 400
    most_epochs: int = 80
    fewest_steps: int = 0
    """Taken however many epochs that is: a handful of examples makes few steps in each."""
    most_epochs_of_strange_words: int | None = None
    """Instead of `most_epochs` where a pre-trained encoder knows fewer than half of the words, as
    in another language: there is more to learn."""
    batch_size: int | None = None
    learning_rate: float = 3e-3
    encoder_learning_rate: float | None = None
    """Of a pre-trained encoder, which has less to learn than the head; None: the same."""
    warm_up_share: float = 0.1
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    label_smoothing: float = 0.1
    averaged_share: float = 0.0
    """Of all steps, those that the running mean of the weights looks back on (Polyak and Juditsky
    1992); the mean is what is kept. 0: the weights are taken as they are."""
    contrast: float = 0.0
    """Weight of the loss that draws utterances of one intent together and others apart
    (supervised contrast, Khosla et al. 2020)."""
    contrast_temperature: float = 0.1
    typo_share: float = 0.0
    """Of the utterances that are shown with one misspelt word."""
    anchor: float = 0.0
    """Weight of the squared distance from a pre-trained encoder's weights, words excepted
    (L2-SP, Li et al. 2018): a few examples are no reason to forget what sentences mean."""
    tutor_weight: float = 0.7
    """Of a tutor's judgement, where there is one; the labels have the rest."""
    tutor_temperature: float = 3.0
    slot_weight: float = 3.0
    """Of the loss per token, where examples are annotated with slots."""
    out_of_scope_weight: float = 1.0
    """Of the part of the loss that teaches out-of-scope examples to favour no intent."""
    word_dropout: float = 0.1
    embedding_dropout: float = 0.3
    feature_dropout: float = 0.5
    patience_epochs: int = 8
    """Training stops when neither validation loss nor accuracy got better for so long."""
    held_out: float = 0.15
    """Share of every intent kept from training, where no validation data is given."""
    seed: int = 0

    def for_examples(self, count: int) -> "TrainingConfig":
        """With `epochs` and `batch_size` filled in."""
        batch_size = self.batch_size or (64 if count > 3_000 else 32 if count > 200 else 16)
        steps = math.ceil(count / batch_size)
        least = min(self.least_epochs, 12 if count > 3_000 else 25)
        wanted = max(least, math.ceil(self.least_steps / steps))
        epochs = self.epochs or max(
            min(self.most_epochs, wanted), math.ceil(self.fewest_steps / steps)
        )
        return replace(self, epochs=epochs, batch_size=batch_size)


FINE_TUNING = TrainingConfig(
    encoder_learning_rate=1.5e-3,
    anchor=0.03,
    typo_share=0.3,
    averaged_share=0.1,
    contrast=0.3,
    embedding_dropout=0.2,
    feature_dropout=0.3,
    least_epochs=12,
    least_steps=900,
    most_epochs=16,
    most_epochs_of_strange_words=40,
    fewest_steps=150,
)
"""From a pre-trained encoder, which brings its own sizes."""
