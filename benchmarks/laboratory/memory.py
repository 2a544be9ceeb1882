"""A symbol, then k words of noise: what of it reaches the end, and can training use it?"""

import math
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.laboratory.fitting import Setup, Size, fit, rounded
from benchmarks.laboratory.report import Run
from intent.network import Batch, BatchBuilder, Encoder
from intent.shape import CELLS, NetworkShape
from intent.text import Vocabulary

SYMBOLS = tuple("abcd")
NOISE_WORDS = tuple("mnopqrst")
PROBE = Vocabulary(SYMBOLS + NOISE_WORDS)


# What reaches back: how the last state's gradient shrinks on its way, before any training.

REACHES = (
    ("default", Setup(cell="rnn")),
    ("default", Setup(cell="lstm")),
    ("default", Setup(cell="gru")),
    ("orthogonal", Setup(cell="rnn", start="orthogonal")),
    ("open gates", Setup(cell="lstm", start="open")),
    ("open gates", Setup(cell="gru", start="open")),
    ("recurrent weights × 1.5", Setup(cell="rnn", start="wild")),
    ("pooled", Setup(cell="gru", readout="pooled")),
)


def reach(size: Size) -> Iterator[Run]:
    for variant, setup in REACHES:
        for seed in range(size.seeds):
            shares = gradient_by_distance(setup, size.reach, seed)
            yield Run("reach", setup.cell, variant, size.reach, seed, shares[-1], norms=shares)


def gradient_by_distance(setup: Setup, steps: int, seed: int) -> list[float]:
    """The size of the gradient at each word, k = 0…steps before the end, as a share of k = 0's."""
    network = Probe(setup, seed)
    draw = random.Random(seed)
    batch = BatchBuilder(PROBE)([draw.choices(NOISE_WORDS, k=steps + 1) for _ in range(32)])
    vectors = network.encoder.word_vectors(batch)[batch.tokens].detach().requires_grad_()
    states = network.encoder.recurrent(vectors)[0]
    direction = torch.randn(states.shape[2], generator=torch.Generator().manual_seed(seed))
    seen = states[:, -1] if setup.readout == "last" else states.mean(1) + states.amax(1)
    torch.autograd.backward((seen @ direction).sum())
    assert vectors.grad is not None
    sizes = vectors.grad.norm(dim=2).mean(0).flip(0)
    return rounded((sizes / sizes[0]).tolist())


# The memory probe: a symbol, then k words of noise; which symbol was it?


def memory(size: Size) -> Iterator[Run]:
    """A variant goes on to longer distances while one of its seeds is right more often than not;
    beyond, only time would be spent."""
    variants: tuple[tuple[str, Callable[[Setup], Setup]], ...] = (
        ("last state", lambda setup: setup),
        ("no clipping", lambda setup: replace(setup, clip_norm=math.inf)),
        ("layer norm", lambda setup: replace(setup, layer_norm=True)),
        ("two directions", lambda setup: replace(setup, directions=2)),
        ("a better start", better_start),
        ("pooled", lambda setup: replace(setup, readout="pooled")),
    )
    for variant, change in variants:
        for cell in CELLS:
            for distance in size.distances:
                setup = change(Setup(cell=cell))
                found = []
                for seed in range(size.seeds):
                    run = remember(setup, distance, size.probe_steps, seed)
                    found.append(run)
                    yield replace(run, variant=variant)
                if max(run.accuracy for run in found) < 0.5:
                    break


def better_start(setup: Setup) -> Setup:
    return replace(setup, start="orthogonal" if setup.cell == "rnn" else "open")


def remember(
    setup: Setup, distance: int, steps: int, seed: int, *, stop_when_solved: bool = True
) -> Run:
    network = Probe(setup, seed)
    build = BatchBuilder(PROBE)
    draw = random.Random(seed)

    def loss() -> Tensor:
        utterances, labels = probe_batch(draw, distance, setup.directions, 32)
        return functional.cross_entropy(network(build(utterances)), labels)

    curves = fit(
        network,
        loss,
        steps=steps,
        clip_norm=setup.clip_norm,
        optimizer=setup.optimizer,
        learning_rate=0.5 if setup.optimizer == "sgd" else 1e-2,
        stop_below=0.02 if stop_when_solved else 0.0,
    )
    with torch.no_grad():
        utterances, labels = probe_batch(draw, distance, setup.directions, 500)
        right = network(build(utterances)).argmax(1) == labels
    accuracy = right.double().mean().item()
    return Run("memory", setup.cell, "", distance, seed, accuracy, *curves)


def probe_batch(
    draw: random.Random, distance: int, directions: int, count: int
) -> tuple[list[list[str]], Tensor]:
    """The symbol lies `distance` words before the end. A network of two directions gets as many
    before it, so that it is as far from either reader's last state."""
    labels = [draw.randrange(len(SYMBOLS)) for _ in range(count)]
    before = distance if directions == 2 else 0
    utterances = [
        [
            *draw.choices(NOISE_WORDS, k=before),
            SYMBOLS[label],
            *draw.choices(NOISE_WORDS, k=distance),
        ]
        for label in labels
    ]
    return utterances, torch.tensor(labels)


# Clipping: a start that stretches, and a learning rate that punishes it.


def clipping(size: Size) -> Iterator[Run]:
    optimizers: tuple[Literal["sgd", "adamw"], ...] = ("sgd", "adamw")
    for optimizer in optimizers:
        for cell in CELLS:
            for clip_norm in (1.0, math.inf):
                setup = Setup(
                    cell=cell,
                    clip_norm=clip_norm,
                    start="wild" if cell == "rnn" else "open",
                    optimizer=optimizer,
                )
                variant = f"{optimizer}, {'clipped' if clip_norm == 1.0 else 'not clipped'}"
                for seed in range(size.clipping_seeds):
                    run = remember(setup, 20, size.probe_steps, seed, stop_when_solved=False)
                    yield replace(run, experiment="clipping", variant=variant)


class Probe(nn.Module):
    """The product's encoder under a head for the symbols."""

    def __init__(self, setup: Setup, seed: int) -> None:
        super().__init__()
        shape = NetworkShape(
            vocabulary=len(PROBE.words),
            intents=len(SYMBOLS),
            cell=setup.cell,
            embedding=32,
            hidden=32,
            directions=setup.directions,
            features=32,
            layer_norm=setup.layer_norm,
        )
        self.setup = setup
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.encoder = Encoder(shape)
            pooled = setup.readout == "pooled"
            width = shape.features if pooled else shape.directions * shape.hidden
            self.head = nn.Linear(width, len(SYMBOLS))
            begin(self.encoder.recurrent, setup)

    def forward(self, batch: Batch) -> Tensor:
        """(B, symbols); all utterances of the batch are of one length."""
        if self.setup.readout == "pooled":
            read = self.encoder(batch)
        else:
            states = self.encoder.recurrent(self.encoder.word_vectors(batch)[batch.tokens])[0]
            if self.encoder.norm is not None:
                states = self.encoder.norm(states)
            width = self.encoder.recurrent.hidden_size
            # Of each reader where it ends; with one direction the second part is empty.
            read = torch.cat([states[:, -1, :width], states[:, 0, width:]], dim=1)
        logits: Tensor = self.head(read)
        return logits


@torch.no_grad()
def begin(recurrent: nn.RNNBase, setup: Setup) -> None:
    """default: as PyTorch draws them. orthogonal: neither shrinks nor stretches a state (Saxe et
    al. 2014). wild: stretches it by half in each step. open: the gate that keeps the state begins
    at 0.98 (LSTM's forget gate, as Gers et al. 2000; GRU's update gate)."""
    width = recurrent.hidden_size
    for name, weight in recurrent.named_parameters():
        if setup.start in {"orthogonal", "wild"} and name.startswith("weight_hh"):
            for gate in weight.view(-1, width, width):
                nn.init.orthogonal_(gate, gain=1.5 if setup.start == "wild" else 1.0)
        if setup.start == "open" and name.startswith("bias_hh"):
            weight[width : 2 * width] += 4.0  # PyTorch's second gate, in both cells
