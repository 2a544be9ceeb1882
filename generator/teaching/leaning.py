"""Which questions lean on the message before: a logistic regression on the reader's vectors."""

import random
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from generator.question import LEANING_FEATURES, leaning_features
from generator.teaching.lesson import Field
from generator.teaching.reader_network import ReaderNetwork
from generator.teaching.reader_validation import logistic_regression
from generator.teaching.tokens import Tokens, padded

AT_ONCE = 64


def leaning_weights(
    network: ReaderNetwork, tokens: Tokens, fields: Sequence[Field], *, seed: int = 0
) -> NDArray[np.float32]:
    """(D + LEANING_FEATURES + 1,), the offset last. Learnt from all follow-ups and as many other
    questions, each seen alone; of nothing but zeros where there are none."""
    questions = [one for field in fields for one in field.questions]
    leaning = [one.text for one in questions if one.before]
    alone = [one.text for one in questions if not one.before]
    few = min(len(leaning), len(alone))
    draw = random.Random(seed)
    texts = [*draw.sample(leaning, few), *draw.sample(alone, few)]
    inputs = _inputs(network, tokens, texts)
    if not few:
        return np.zeros(inputs.shape[1] + 1, np.float32)
    targets = np.arange(len(texts)) < few
    weights, offset = logistic_regression(inputs, targets.astype(np.float64))
    return np.array([*weights, offset], np.float32)


@torch.inference_mode()
def _inputs(network: ReaderNetwork, tokens: Tokens, texts: Sequence[str]) -> NDArray[np.float64]:
    """(texts, D + LEANING_FEATURES)"""
    network.eval()
    rows: list[NDArray[np.float32]] = []
    for start in range(0, len(texts), AT_ONCE):
        part = texts[start : start + AT_ONCE]
        vectors = network.ask(*padded([tokens.question(text) for text in part])).vectors.float()
        units = functional.normalize(vectors, dim=-1).numpy()
        rows += [leaning_features(unit, text) for unit, text in zip(units, part, strict=True)]
    return np.array(rows, np.float64).reshape(-1, network.shape.width + LEANING_FEATURES)
