"""A network of random weights with a tokenizer and a chat template, to measure without a hub."""

import random
from pathlib import Path
from typing import Any

MOST_WEIGHTS = 1_000_000_000
VOCABULARY = 8_000
HEAD_SIZE = 64
TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}</s>"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def write_random_network(folder: Path, weights: int) -> None:
    """A Llama of about so many weights, shaped as small chat networks are."""
    import torch
    import transformers

    transformers.logging.disable_progress_bar()
    tokenizer = _tokenizer()
    hidden, layers = _shape(weights, len(tokenizer))
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=hidden * 8 // 3,
        num_hidden_layers=layers,
        num_attention_heads=hidden // HEAD_SIZE,
        num_key_value_heads=hidden // HEAD_SIZE // 3,
        max_position_embeddings=2048,
        tie_word_embeddings=False,  # tied ones that have learned nothing repeat their input
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
        pad_token_id=tokenizer.eos_token_id,
    )
    torch.manual_seed(1)
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _shape(weights: int, vocabulary: int) -> tuple[int, int]:
    """Hidden size and layers. A layer has 32/3 times the square of its size, with three heads to
    a key; a network of this shape is about as many layers deep as it has heads."""
    hidden = 3 * HEAD_SIZE
    while 2 * vocabulary * hidden + hidden // HEAD_SIZE * hidden**2 * 32 // 3 < weights:
        hidden += 3 * HEAD_SIZE
    return hidden, max(1, round((weights - 2 * vocabulary * hidden) / (hidden**2 * 32 / 3)))


def _tokenizer() -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    choice = random.Random(1)
    syllables = [a + b for a in "bcdfghjklmnprstvwz" for b in ("a", "e", "i", "o", "u", "en", "or")]
    words = ["".join(choice.choices(syllables, k=choice.randrange(1, 5))) for _ in range(20_000)]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    roles = ["<|system|>", "<|user|>", "<|assistant|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["</s>", *roles],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([" ".join(words)], trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="</s>",  # noqa: S106 - no password
        additional_special_tokens=roles,
    )
    fast.chat_template = TEMPLATE
    return fast
