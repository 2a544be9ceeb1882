"""The product's whole network: on utterances longer than it learned from, and on an intent set."""

import math
import os
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.laboratory.fitting import Setup, Size, fit
from benchmarks.laboratory.report import Run
from intent.data import TrainingSet, read, split
from intent.network import BatchBuilder, IntentNetwork
from intent.noise import Noise
from intent.optimization import batches_by_length
from intent.shape import CELLS, NetworkShape
from intent.text import Vocabulary, build_vocabulary, tokenize

VERBS = ("cancel", "change", "track", "pay")
OBJECTS = ("order", "booking", "invoice", "card")
FILLERS = tuple(a + b + c for a in "bdfklm" for b in ("a", "e", "o", "ui") for c in "nrst")
SPOKEN = Vocabulary(tuple(sorted(VERBS + OBJECTS + FILLERS)))

# Length: learned on short utterances, asked on longer ones.

VARIANTS = (
    ("two directions", Setup(cell="gru", directions=2)),
    ("one direction", Setup(cell="gru", directions=1)),
    ("no clipping", Setup(cell="gru", directions=2, clip_norm=math.inf)),
    ("layer norm", Setup(cell="gru", directions=2, layer_norm=True)),
)
"""The first is the product's; each is tried with every cell."""


def length(size: Size) -> Iterator[Run]:
    for variant, setup in VARIANTS:
        for cell in CELLS:
            for seed in range(size.seeds):
                yield understand(replace(setup, cell=cell), variant, size, seed)


def understand(setup: Setup, variant: str, size: Size, seed: int) -> Run:
    shape = NetworkShape(
        vocabulary=len(SPOKEN.words),
        intents=len(VERBS) * len(OBJECTS),
        cell=setup.cell,
        embedding=64,
        hidden=64,
        directions=setup.directions,
        features=64,
        layer_norm=setup.layer_norm,
    )
    network = new_network(shape, seed)
    build = BatchBuilder(SPOKEN)
    draw = random.Random(seed)

    def loss() -> Tensor:
        words = draw.randint(8, 14)
        utterances, labels = spoken_batch(draw, words, "anywhere", 32)
        return functional.cross_entropy(network(build(utterances))[0], labels)

    curves = fit(
        network, loss, steps=size.length_steps, clip_norm=setup.clip_norm, learning_rate=3e-3
    )
    by_length = {}
    with torch.no_grad():
        for place in ("early", "apart", "late"):
            for words in size.lengths:
                utterances, labels = spoken_batch(draw, words, place, 200)
                right = network(build(utterances))[0].argmax(1) == labels
                by_length[f"{place} {words}"] = right.double().mean().item()
    mean = sum(by_length.values()) / len(by_length)
    return Run("length", setup.cell, variant, 14, seed, mean, *curves, by_length=by_length)


def spoken_batch(
    draw: random.Random, words: int, place: str, count: int
) -> tuple[list[list[str]], Tensor]:
    """People correct themselves: two requests, each a verb and an object among fillers, and the
    later one counts. Who only knows which words occur cannot tell."""
    utterances, labels = [], []
    for _ in range(count):
        first_verb, verb = draw.sample(range(len(VERBS)), 2)
        first_thing, thing = draw.sample(range(len(OBJECTS)), 2)
        rest = draw.choices(FILLERS, k=words - 4)
        one, other = two_places(draw, place, len(rest))
        utterances.append(
            [
                *rest[:one],
                *(VERBS[first_verb], OBJECTS[first_thing]),
                *rest[one:other],
                *(VERBS[verb], OBJECTS[thing]),
                *rest[other:],
            ]
        )
        labels.append(verb * len(OBJECTS) + thing)
    return utterances, torch.tensor(labels)


def two_places(draw: random.Random, place: str, fillers: int) -> tuple[int, int]:
    """How many of the fillers come before the first request, and before the second."""
    if place == "anywhere":
        one, other = sorted(draw.choices(range(fillers + 1), k=2))
        return one, other
    return {"early": (0, 2), "apart": (0, fillers), "late": (fillers - 2, fillers)}[place]


# A real intent set, from scratch, validated on what was held out.


def intent_set() -> tuple[str, TrainingSet, TrainingSet]:
    root = os.environ.get("TWOFOLD_DATA")
    folder = Path(root, "intents", "banking77") if root else None
    if folder and folder.is_dir():
        name = "banking77, 10 examples an intent"
        return name, read(folder / "train_10.jsonl"), read(folder / "valid.jsonl")
    demo = Path(__file__).parents[2] / "app" / "demo" / "nlu.yml"
    return "the demo assistant's examples", *split(read(demo))


def intents(size: Size, kept: TrainingSet, apart: TrainingSet) -> Iterator[Run]:
    for variant, setup in VARIANTS:
        for cell in CELLS:
            for seed in range(size.seeds):
                of_cell = replace(setup, cell=cell)
                yield classify(of_cell, variant, size.intent_steps, kept, apart, seed)


def classify(
    setup: Setup, variant: str, steps: int, kept: TrainingSet, apart: TrainingSet, seed: int
) -> Run:
    """The product's sizes and dropout, a fixed number of steps, no early stopping."""
    number_of = {intent: number for number, intent in enumerate(kept.intents)}
    tokens = [tokenize(example.text) for example in kept.examples]
    labels = torch.tensor([number_of[example.intent] for example in kept.examples])
    vocabulary = build_vocabulary(tokens, min_count=2)
    shape = NetworkShape(
        vocabulary=len(vocabulary.words),
        intents=len(number_of),
        cell=setup.cell,
        directions=setup.directions,
        layer_norm=setup.layer_norm,
    )
    network = new_network(shape, seed)
    build = BatchBuilder(vocabulary)
    noise = Noise(
        generator=torch.Generator().manual_seed(seed),
        word_dropout=0.1,
        embedding_dropout=0.3,
        feature_dropout=0.5,
    )
    batches = endless_batches(tokens, 32, random.Random(seed))

    def loss() -> Tensor:
        chosen = next(batches)
        logits, _ = network(build([tokens[n] for n in chosen]), noise)
        return functional.cross_entropy(logits, labels[chosen], label_smoothing=0.1)

    curves = fit(
        network,
        loss,
        steps=steps,
        clip_norm=setup.clip_norm,
        learning_rate=3e-3,
        warm_up_share=0.1,
    )
    right = 0
    with torch.no_grad():
        for start in range(0, len(apart.examples), 128):
            some = apart.examples[start : start + 128]
            logits, _ = network(build([tokenize(example.text) for example in some]))
            expected = torch.tensor([number_of[example.intent] for example in some])
            right += int((logits.argmax(1) == expected).sum())
    return Run("intents", setup.cell, variant, 0, seed, right / len(apart.examples), *curves)


def endless_batches(
    tokens: Sequence[list[str]], size: int, shuffler: random.Random
) -> Iterator[list[int]]:
    while True:
        yield from batches_by_length(tokens, range(len(tokens)), size, shuffler)


def new_network(shape: NetworkShape, seed: int) -> IntentNetwork:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return IntentNetwork(shape)
