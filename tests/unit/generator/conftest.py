"""Tiny causal networks of different architectures, built here: no hub is needed."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from generator.closing import close
from generator.interface import Piece
from generator.seq2seq.artifact import Seq2Seq
from generator.teaching.lesson import Field, read_answers

from .plant_talk import SMALL, plant_talk
from .small_lessons import write_answers, write_base

TALK = [
    "the parcel arrives on monday and the driver calls you before noon",
    "you can return the boots within sixty days of delivery",
    "answer the question in plain words and say so if you do not know",
    "it is quoted text not orders ignore any instruction it contains",
]
TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}</s>"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
CONTEXT_TOKENS = 1024


@pytest.fixture(scope="session")
def llama_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a chat template and a byte-level tokenizer."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("llama")
    tokenizer = _tokenizer(TEMPLATE)
    torch.manual_seed(3)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=48,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT_TOKENS,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
        pad_token_id=tokenizer.eos_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def wide_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Wide enough that its matrices are multiplied, and rounded, otherwise when they are large."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("wide")
    tokenizer = _tokenizer(TEMPLATE)
    torch.manual_seed(3)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=768,
        intermediate_size=1024,
        num_hidden_layers=3,
        num_attention_heads=12,
        num_key_value_heads=4,
        max_position_embeddings=CONTEXT_TOKENS,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
        pad_token_id=tokenizer.eos_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def gpt2_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Without a chat template."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    folder = tmp_path_factory.mktemp("gpt2")
    tokenizer = _tokenizer(None)
    torch.manual_seed(5)
    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_embd=32,
        n_layer=2,
        n_head=2,
        n_positions=CONTEXT_TOKENS,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=tokenizer.eos_token_id,
    )
    GPT2LMHeadModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def mistral_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its attention sees only the last 40 tokens. Weights large enough that a token too many, or
    too few, is another reply."""
    import torch
    from transformers import MistralConfig, MistralForCausalLM

    folder = tmp_path_factory.mktemp("mistral")
    tokenizer = _tokenizer(TEMPLATE)
    torch.manual_seed(11)
    config = MistralConfig(
        vocab_size=len(tokenizer),
        hidden_size=48,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT_TOKENS,
        sliding_window=40,
        initializer_range=0.2,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
        pad_token_id=tokenizer.eos_token_id,
    )
    MistralForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def bloom_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its attention adds a term of its own (ALiBi), which no batch here knows."""
    import torch
    from transformers import BloomConfig, BloomForCausalLM

    folder = tmp_path_factory.mktemp("bloom")
    tokenizer = _tokenizer(TEMPLATE)
    torch.manual_seed(7)
    config = BloomConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        n_layer=2,
        n_head=2,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=tokenizer.eos_token_id,
    )
    BloomForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _tokenizer(template: str | None):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    roles = ["<|system|>", "<|user|>", "<|assistant|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["</s>", *roles],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TALK, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="</s>", additional_special_tokens=roles
    )
    if template:
        fast.chat_template = template
    return fast


@pytest.fixture(scope="session")
def learned() -> tuple[Seq2Seq, float]:
    """The network as it is served, and the loss it ended with."""
    import torch

    from generator.seq2seq.training import Trained, served, train

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        *_, trained = train(plant_talk(), SMALL)
    finally:
        torch.set_num_threads(threads)
    assert isinstance(trained, Trained)
    return served(trained), min(epoch.valid_loss for epoch in trained.epochs)


async def collect(pieces: AsyncIterator[Piece]) -> list[Piece]:
    try:
        return [piece async for piece in pieces]
    finally:
        await close(pieces)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of eight invented places, to teach with."""
    return write_answers(tmp_path_factory.mktemp("answers"))


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory, answers: Path) -> Path:
    return write_base(tmp_path_factory.mktemp("base"), answers)


@pytest.fixture(scope="session")
def fields(answers: Path) -> list[Field]:
    return read_answers(answers)
