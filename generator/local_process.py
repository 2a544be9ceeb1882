"""The process behind LocalGenerator: JSON lines in, JSON lines out. Run by local.py only.

It ends by itself when its standard input closes, so that it never outlives its parent.
"""

import json
import os
import queue
import sys
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from generator.interface import ChatMessage, GeneratorError, GeneratorUnavailable, Limits, Passage
from generator.prompt import PromptTooLong, build_prompt

DEFAULT_CONTEXT_TOKENS = 4096
"""Where a network's configuration does not say how much it can read."""


@dataclass(slots=True)
class Request:
    id: int
    messages: list[ChatMessage]
    passages: list[Passage]
    limits: Limits
    cancelled: threading.Event = field(default_factory=threading.Event)


def main() -> None:
    config = json.loads(sys.argv[1])
    # Whatever a library prints must not end up between our lines.
    out = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)

    def say(message: dict[str, Any]) -> None:
        out.write(json.dumps(message) + "\n")
        out.flush()

    requests: queue.SimpleQueue[Request] = queue.SimpleQueue()
    threading.Thread(target=_obey, args=(requests,), daemon=True).start()
    try:
        network = Network(config)
    except Exception as error:
        say({"failed": explain(error, config["model"])})
        return
    say({"ready": True})
    while True:
        request = requests.get()
        if request.cancelled.is_set():
            continue
        try:
            network.reply(request, partial(_say_text, say, request.id))
        except GeneratorError as error:
            say({"id": request.id, "error": str(error), "code": error.code})
        except Exception as error:
            # The text of an unknown error may quote the user; its type may not.
            reason = f"generating failed with {type(error).__name__}"
            say({"id": request.id, "error": reason, "code": GeneratorError.code})
        else:
            say({"id": request.id, "done": True})


def _say_text(say: Callable[[dict[str, Any]], None], request_id: int, text: str) -> None:
    say({"id": request_id, "text": text})


def _obey(requests: "queue.SimpleQueue[Request]") -> None:
    """Reads what the parent says while the main thread computes."""
    listen(sys.stdin, requests)
    os._exit(0)


def listen(lines: Iterable[str], requests: "queue.SimpleQueue[Request]") -> None:
    known: dict[int, Request] = {}
    for line in lines:
        message = json.loads(line)
        if "cancel" in message:
            request = known.pop(message["cancel"], None)
            if request is not None:
                request.cancelled.set()
            continue
        request = Request(
            message["id"],
            [ChatMessage(**each) for each in message["messages"]],
            [Passage(**each) for each in message["passages"]],
            Limits(**message["limits"]),
        )
        known[request.id] = request
        requests.put(request)


class Network:
    """A causal LM and its tokenizer. `config` is LocalGenerator's."""

    def __init__(self, config: dict[str, Any]) -> None:
        model: str = config["model"]
        local = check_folder(model)

        import torch
        import transformers

        transformers.logging.set_verbosity_error()
        transformers.logging.disable_progress_bar()
        if config["threads"]:
            torch.set_num_threads(config["threads"])
        options = {"local_files_only": local, "trust_remote_code": False}
        self._device = config["device"] or ("cuda" if torch.cuda.is_available() else "cpu")
        self._tokenizer = transformers.AutoTokenizer.from_pretrained(model, **options)
        self._network = transformers.AutoModelForCausalLM.from_pretrained(
            model,
            dtype=torch.bfloat16 if config["bf16"] else torch.float32,
            use_safetensors=True,
            **options,
        ).to(self._device)
        self._network.eval()
        self._instructions: str = config["instructions"]
        text_config = self._network.config.get_text_config()
        self._context_tokens: int = min(
            getattr(text_config, "max_position_embeddings", None) or DEFAULT_CONTEXT_TOKENS,
            config["context_tokens"] or sys.maxsize,
        )

    def reply(self, request: Request, emit: Callable[[str], None]) -> None:
        """Emits the texts of a reply as they come. Ends early when it is cancelled."""
        import torch
        import transformers

        limits = request.limits
        max_new_tokens = max(1, min(limits.max_tokens, self._context_tokens // 2))
        inputs, stops = self._encode(request, self._context_tokens - max_new_tokens)
        spoken = SpokenText(self._decode, emit, (*limits.stop, *stops))

        class Streamer(transformers.generation.streamers.BaseStreamer):  # type: ignore[misc]
            prompt_seen = False

            def put(self, value: Any) -> None:
                if self.prompt_seen:
                    spoken.add(value.reshape(-1).tolist())
                self.prompt_seen = True

            def end(self) -> None:
                pass

        class Stop(transformers.StoppingCriteria):  # type: ignore[misc]
            def __call__(self, input_ids: Any, scores: Any, **kwargs: Any) -> Any:
                stop = spoken.stopped or request.cancelled.is_set()
                return torch.full((input_ids.shape[0],), stop, device=input_ids.device)

        if limits.seed is not None:
            torch.manual_seed(limits.seed)
        sampling = {"temperature": limits.temperature} if limits.temperature > 0 else {}
        with torch.inference_mode():
            self._network.generate(
                **inputs,
                max_new_tokens=max_new_tokens,
                do_sample=bool(sampling),
                num_beams=1,
                pad_token_id=self._pad_token(),
                streamer=Streamer(),
                stopping_criteria=transformers.StoppingCriteriaList([Stop()]),
                **sampling,
            )
        if not request.cancelled.is_set():
            spoken.finish()

    def _pad_token(self) -> int:
        if self._tokenizer.pad_token_id is not None:
            return int(self._tokenizer.pad_token_id)
        end = self._network.generation_config.eos_token_id
        return int(end[0] if isinstance(end, list) else end or 0)

    def _encode(self, request: Request, most_tokens: int) -> tuple[Any, tuple[str, ...]]:
        """Token ids of the prompt, and the strings that end a reply in its format."""
        budget = most_tokens
        while budget > 0:
            prompt = build_prompt(
                request.messages,
                request.passages,
                count_tokens=lambda text: len(self._tokenizer(text)["input_ids"]),
                budget=budget,
                instructions=self._instructions,
            )
            inputs, stops = self._apply_template(prompt)
            over = inputs["input_ids"].shape[1] - most_tokens
            if over <= 0:
                return inputs.to(self._device), stops
            # This template adds more than the usual per message.
            budget -= over
        raise PromptTooLong(f"the last message does not fit into {most_tokens} tokens")

    def _apply_template(self, prompt: list[ChatMessage]) -> tuple[Any, tuple[str, ...]]:
        """User text and passages must not become control tokens in either format."""
        if not self._tokenizer.chat_template:
            text = plain_format(prompt)
            return self._tokenizer(text, return_tensors="pt", split_special_tokens=True), (
                "\nUser:",
            )
        try:
            return self._render(prompt), ()
        except Exception as error:
            # Templates refuse roles with an error of their own; Gemma's have no system role.
            if type(error).__name__ != "TemplateError" or prompt[0].role != "system":
                raise
            first = ChatMessage("user", f"{prompt[0].text}\n\n{prompt[1].text}")
            return self._render([first, *prompt[2:]]), ()

    def _render(self, prompt: list[ChatMessage]) -> Any:
        return self._tokenizer.apply_chat_template(
            [{"role": message.role, "content": message.text} for message in prompt],
            add_generation_prompt=True,
            return_tensors="pt",
            return_dict=True,
            sanitize_control_tokens=True,
        )

    def _decode(self, ids: list[int]) -> str:
        return str(self._tokenizer.decode(ids, skip_special_tokens=True))


class SpokenText:
    """Turns tokens into texts that need never be taken back.

    A character may take several tokens, and a stop string several texts, so what could still
    change is held back. The texts, joined, are the decoded tokens up to the first stop string.
    """

    def __init__(
        self,
        decode: Callable[[list[int]], str],
        emit: Callable[[str], None],
        stops: tuple[str, ...] = (),
    ) -> None:
        self.stopped = False
        self._decode = decode
        self._emit = emit
        self._stops = tuple(stop for stop in stops if stop)
        self._ids: list[int] = []
        self._said = ""

    def add(self, ids: list[int]) -> None:
        if self.stopped:
            return
        self._ids.extend(ids)
        text = self._cut_at_stop(self._decode(self._ids))
        if not self.stopped:
            text = text.rstrip("\ufffd")
            held = max((_overlap(text, stop) for stop in self._stops), default=0)
            text = text[: len(text) - held]
        self._say(text)

    def finish(self) -> None:
        if not self.stopped:
            self._say(self._cut_at_stop(self._decode(self._ids)))

    def _cut_at_stop(self, text: str) -> str:
        ends = [at for stop in self._stops if (at := text.find(stop)) >= 0]
        self.stopped = self.stopped or bool(ends)
        return text[: min(ends)] if ends else text

    def _say(self, text: str) -> None:
        if len(text) > len(self._said) and text.startswith(self._said):
            self._emit(text[len(self._said) :])
            self._said = text


def _overlap(text: str, stop: str) -> int:
    """How many of the last characters of `text` could be the beginning of `stop`."""
    for length in range(min(len(text), len(stop) - 1), 0, -1):
        if text.endswith(stop[:length]):
            return length
    return 0


def plain_format(prompt: list[ChatMessage]) -> str:
    """For a tokenizer without a chat template."""
    names = {"user": "User", "assistant": "Assistant"}
    lines = [
        f"{names[message.role]}: {message.text}" if message.role in names else message.text
        for message in prompt
    ]
    return "\n\n".join([*lines, "Assistant:"])


def check_folder(model: str) -> bool:
    """Whether `model` is a folder here. Says what is wrong with it before torch is loaded."""
    folder = Path(model)
    if not folder.is_dir():
        if folder.is_absolute() or model.startswith((".", "~")) or model.count("/") > 1:
            raise GeneratorUnavailable(
                f"there is no folder {model}; give a folder written by save_pretrained, "
                "or the hub's owner/name"
            )
        return False
    remedy = "write the folder with save_pretrained of both the network and its tokenizer"
    if not (folder / "config.json").is_file():
        raise GeneratorUnavailable(f"{model} has no config.json; {remedy}")
    if not any(folder.glob("*.safetensors")):
        raise GeneratorUnavailable(
            f"{model} has no *.safetensors weights (other formats can run code and are not "
            f"read); {remedy}"
        )
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        raise GeneratorUnavailable(f"{model} has no tokenizer; {remedy}")
    return True


TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "tekken.json")


def explain(error: Exception, model: str) -> str:
    if isinstance(error, GeneratorUnavailable):
        return str(error)
    reason = str(error).strip().partition("\n")[0][:300]
    return (
        f"{model} could not be loaded ({type(error).__name__}: {reason}); it must be a Hugging "
        "Face causal language network with safetensors weights, complete and not in need of "
        "code of its own; for a name on the hub, the hub must be reachable"
    )


if __name__ == "__main__":
    main()
