"""A causal language network and its tokenizer, loaded; prompts in, token ids out."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from generator.interface import ChatMessage, GeneratorUnavailable, Limits, Passage
from generator.local.int8 import quantize
from generator.local.model_folder import check_folder
from generator.local.sampling import Sampling
from generator.prompt import PromptTooLong, build_prompt

Precision = Literal["float32", "bfloat16", "int8"]

DEFAULT_CONTEXT_TOKENS = 4096
"""Where a network's configuration does not say how much it can read."""


@dataclass(frozen=True, slots=True)
class NetworkOptions:
    model: str
    precision: Precision = "float32"
    device: str | None = None
    threads: int | None = None
    context_tokens: int | None = None
    plain_chat: bool = False
    instructions: str = ""


@dataclass(frozen=True, slots=True)
class Task:
    """A request as a network sees it."""

    prompt: list[int]
    max_new_tokens: int
    sampling: Sampling
    stops: tuple[str, ...]


class CausalNetwork:
    def __init__(self, options: NetworkOptions) -> None:
        """Raises GeneratorUnavailable with the remedy, or whatever transformers raises."""
        is_folder = check_folder(options.model)

        import torch
        import transformers

        transformers.logging.set_verbosity_error()
        transformers.logging.disable_progress_bar()
        if options.threads:
            torch.set_num_threads(options.threads)
        self.device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
        if options.precision == "int8" and self.device != "cpu":
            raise GeneratorUnavailable(
                f"int8 is for the CPU and the device is {self.device}; choose bfloat16"
            )
        if is_folder:
            _refuse_own_code(options.model, transformers.CONFIG_MAPPING)
        load: dict[str, Any] = {"local_files_only": is_folder, "trust_remote_code": False}
        self.tokenizer: Any = transformers.AutoTokenizer.from_pretrained(options.model, **load)
        if not self.tokenizer.chat_template and not options.plain_chat:
            raise GeneratorUnavailable(
                f"{options.model} has no chat template, so it was probably never taught to chat; "
                "choose its instruct or chat variant, put its chat_template.jinja into the folder, "
                'or allow plain "User: …" lines (plain_chat)'
            )
        # Missing weights are drawn at random by transformers, with no more than a warning.
        self.network, report = transformers.AutoModelForCausalLM.from_pretrained(
            options.model,
            dtype=torch.float32 if options.precision == "float32" else torch.bfloat16,
            use_safetensors=True,
            output_loading_info=True,
            **load,
        )
        if report["missing_keys"]:
            raise GeneratorUnavailable(
                f"the weights of {options.model} lack {len(report['missing_keys'])} tensors, for "
                f"example {min(report['missing_keys'])}; fetch or save the folder again, whole"
            )
        self.network.to(self.device).eval()
        self._known_tokens: int = self.network.get_input_embeddings().weight.shape[0]
        if options.precision == "int8":
            quantize(self.network)
        self._instructions = options.instructions
        text_config = self.network.config.get_text_config()
        self.context_tokens: int = min(
            getattr(text_config, "max_position_embeddings", None) or DEFAULT_CONTEXT_TOKENS,
            options.context_tokens or sys.maxsize,
        )
        recommended = self.network.generation_config
        self._sampling: dict[str, Any] = {
            "repetition_penalty": recommended.repetition_penalty or 1.0,
            "top_k": 50 if recommended.top_k is None else recommended.top_k,
            "top_p": recommended.top_p or 1.0,
        }
        self.ends = self._end_tokens(recommended)
        # TokenChooser does the sampling; `generate` must not do it, too.
        self.network.generation_config = transformers.GenerationConfig(
            do_sample=False,
            num_beams=1,
            eos_token_id=self.ends,
            pad_token_id=self.ends[0] if self.ends else 0,
        )

    def _end_tokens(self, recommended: Any) -> list[int]:
        for end in (recommended.eos_token_id, self.tokenizer.eos_token_id):
            if end is not None:
                return [int(one) for one in (end if isinstance(end, list) else [end])]
        return []

    def task(
        self, messages: Sequence[ChatMessage], passages: Sequence[Passage], limits: Limits
    ) -> Task:
        """Raises PromptTooLong."""
        max_new_tokens = max(1, min(limits.max_tokens, self.context_tokens // 2))
        prompt, stops = self._encode(messages, passages, self.context_tokens - max_new_tokens)
        sampling = Sampling(limits.temperature, limits.seed, **self._sampling)
        return Task(prompt, max_new_tokens, sampling, (*limits.stop, *stops))

    def decode(self, ids: list[int]) -> str:
        return str(self.tokenizer.decode(ids, skip_special_tokens=True))

    def _encode(
        self, messages: Sequence[ChatMessage], passages: Sequence[Passage], most_tokens: int
    ) -> tuple[list[int], tuple[str, ...]]:
        """Token ids of the prompt, and the strings that end a reply in its format."""
        budget = most_tokens
        while budget > 0:
            prompt = build_prompt(
                messages,
                passages,
                count_tokens=lambda text: len(self.tokenizer(text)["input_ids"]),
                budget=budget,
                instructions=self._instructions,
            )
            ids, stops = self._apply_template(prompt)
            over = len(ids) - most_tokens
            if over <= 0:
                self._check(ids)
                return ids, stops
            # This template adds more than the usual per message.
            budget -= over
        raise PromptTooLong(f"the last message does not fit into {most_tokens} tokens; shorten it")

    def _check(self, ids: Sequence[int]) -> None:
        """Tokenizers may know more tokens than they use; one in a prompt would be an index error
        that takes the whole batch down."""
        if max(ids) >= self._known_tokens:
            raise GeneratorUnavailable(
                f"the tokenizer makes token {max(ids)} of this text and the network knows "
                f"{self._known_tokens}; take both from the same training"
            )

    def _apply_template(self, prompt: list[ChatMessage]) -> tuple[list[int], tuple[str, ...]]:
        """User text and passages must not become control tokens in either format."""
        if not self.tokenizer.chat_template:
            ids = self.tokenizer(plain_format(prompt), split_special_tokens=True)["input_ids"]
            return list(ids), ("\nUser:",)
        try:
            return self._render(prompt), ()
        except Exception as error:
            # Templates refuse roles with an error of their own; Gemma's have no system role.
            if type(error).__name__ != "TemplateError" or prompt[0].role != "system":
                raise
            first = ChatMessage("user", f"{prompt[0].text}\n\n{prompt[1].text}")
            return self._render([first, *prompt[2:]]), ()

    def _render(self, prompt: list[ChatMessage]) -> list[int]:
        rendered = self.tokenizer.apply_chat_template(
            [{"role": message.role, "content": message.text} for message in prompt],
            add_generation_prompt=True,
            return_dict=True,
            sanitize_control_tokens=True,
        )
        return list(rendered["input_ids"])


def plain_format(prompt: Sequence[ChatMessage]) -> str:
    """For a tokenizer without a chat template."""
    names = {"user": "User", "assistant": "Assistant"}
    lines = [
        f"{names[message.role]}: {message.text}" if message.role in names else message.text
        for message in prompt
    ]
    return "\n\n".join([*lines, "Assistant:"])


def _refuse_own_code(model: str, known: Any) -> None:
    """Many folders name code of their own beside an architecture that transformers knows."""
    config = json.loads((Path(model) / "config.json").read_text("utf-8"))
    if "auto_map" in config and config.get("model_type") not in known:
        raise GeneratorUnavailable(
            f"{model} comes with Python code of its own (auto_map in config.json), which is never "
            "run here; choose a network that transformers knows, or serve this one with an "
            "OpenAI-compatible engine and use the remote generator"
        )


def explain(error: Exception, model: str) -> str:
    if isinstance(error, GeneratorUnavailable):
        return str(error)
    reason = str(error).strip().partition("\n")[0][:300]
    return (
        f"{model} could not be loaded ({type(error).__name__}: {reason}); it must be a Hugging "
        "Face causal language network with safetensors weights, complete and not in need of "
        "code of its own; for a name on the hub, the hub must be reachable"
    )
