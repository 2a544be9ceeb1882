"""A reader that learns from the small lessons in seconds."""

import json
from pathlib import Path

from generator.teaching.reader_base import base_network
from generator.teaching.reader_training import (
    ReaderConfig,
    ReaderPupil,
    nearest_pages,
)
from generator.teaching.tokens import Tokens

READER = ReaderConfig(
    epochs=25,
    questions=12,
    strangers=1,
    learning_rate=4e-3,
    new_multiple=1.0,
    warm_up=5,
    faq_fields=0,
    other_pages=6,
)


def reader_pupil(base: Path, fields, *, validation=(), config: ReaderConfig = READER):
    network, tokens = base_network(base), Tokens.load(base)
    nearest = nearest_pages(network, tokens, fields, known={})
    return ReaderPupil(
        network, tokens, fields, nearest=nearest, validation=validation, config=config
    )


def vocabulary_of(base: Path) -> dict[str, int]:
    return json.loads((base / "tokenizer.json").read_text("utf-8"))["model"]["vocab"]
