"""python -m generator: talk to a generator, measure one, train or teach one."""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from generator import bench
from generator.closing import close
from generator.documents import DocumentError, read_folder
from generator.embedded import EmbeddedGenerator
from generator.engine_options import add_engine_options, check_engine_options, engine_of
from generator.interface import ChatMessage, Generator, GeneratorError, Limits, Passage
from generator.reader import Reader
from generator.seq2seq import command as seq2seq_command
from generator.teaching import command as teaching
from generator.vectors import closest


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m generator", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    chat = commands.add_parser("chat", help="talk to a generator; an empty line ends the chat")
    chat.add_argument(
        "--documents", type=Path, help="answer from the Markdown, text and HTML files here"
    )
    engine = chat.add_mutually_exclusive_group()
    engine.add_argument("--model", help="a Hugging Face causal LM: a folder, or a hub name")
    engine.add_argument(
        "--seq2seq", type=Path, metavar="FOLDER", help="written by `python -m generator train`"
    )
    add_engine_options(chat, engine)
    chat.add_argument(
        "--precision",
        choices=["float32", "bfloat16", "int8"],
        default="float32",
        help="what to compute in (with --model)",
    )
    chat.add_argument("--bf16", action="store_const", dest="precision", const="bfloat16")
    chat.add_argument("--max-tokens", type=int, default=256)
    chat.add_argument("--seconds", type=float, default=120.0, help="time limit of a reply")
    chat.add_argument("--temperature", type=float, default=0.0)
    chat.add_argument("--seed", type=int)
    bench.add_command(commands)
    seq2seq_command.add_to(commands)
    teaching.add_to(commands)
    options = parser.parse_args(arguments)
    if options.command == "bench":
        return bench.run(options)
    if options.command == "train":
        return seq2seq_command.run(options)
    if options.command in teaching.COMMANDS:
        return teaching.run(options)
    if not (options.model or options.url or options.seq2seq or options.documents):
        chat.error("give --documents, --model, --seq2seq or --url")
    check_engine_options(options, chat)
    if options.documents and not options.documents.is_dir():
        chat.error(f"there is no folder {options.documents}")
    limits = Limits(
        max_tokens=options.max_tokens,
        seconds=options.seconds,
        seed=options.seed,
        temperature=options.temperature,
    )
    try:
        passages = read_folder(options.documents) if options.documents else []
    except DocumentError as error:
        chat.error(str(error))
    with suppress(KeyboardInterrupt):
        asyncio.run(_chat(_generator(options, chat), passages, limits))
    return 0


def _generator(options: argparse.Namespace, parser: argparse.ArgumentParser) -> Generator:
    if options.model:
        from generator.local.generator import LocalGenerator

        return LocalGenerator(options.model, precision=options.precision, most_running=1)
    if options.seq2seq:
        from generator.seq2seq.generator import Seq2SeqGenerator

        return Seq2SeqGenerator(options.seq2seq)
    if options.url:
        return engine_of(options, parser)
    return EmbeddedGenerator.load()


async def _chat(generator: Generator, passages: Sequence[Passage], limits: Limits) -> None:
    reader = Reader()
    vectors = reader.passage_vectors(passages)
    messages: list[ChatMessage] = []
    try:
        while text := (await asyncio.to_thread(_read_line)).strip():
            messages.append(ChatMessage("user", text))
            asked = reader.question_vectors(reader.question(messages))
            found = closest(asked, passages, vectors)
            reply = await _say(generator, messages, found, limits)
            if reply:
                messages.append(ChatMessage("assistant", reply))
            else:
                messages.pop()
    finally:
        await generator.aclose()


def _read_line() -> str:
    print("> ", end="", flush=True)
    return sys.stdin.readline()


async def _say(
    generator: Generator,
    messages: Sequence[ChatMessage],
    passages: Sequence[Passage],
    limits: Limits,
) -> str:
    said = ""
    titles: dict[str, None] = {}
    pieces = generator.stream(messages, passages, limits)
    try:
        async for piece in pieces:
            print(piece.text, end="", flush=True)
            said += piece.text
            titles.update(dict.fromkeys(c.title for c in piece.citations))
    except GeneratorError as error:
        print(f"\n[{error.code}] {error}", file=sys.stderr)
        return ""
    finally:
        await close(pieces)
    print(f"\n  ({', '.join(titles)})" if titles else "")
    return said


if __name__ == "__main__":
    sys.exit(main())
