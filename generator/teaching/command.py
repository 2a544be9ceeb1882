"""`python -m generator teach-reader`, `save-reader`, `teach-writer`: answer files to networks."""

import argparse
import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # torch takes seconds to import, so the commands do it when they need it
    from torch import Tensor

    from generator.judging import Calibration
    from generator.reader import Reader
    from generator.teaching.lesson import Field
    from generator.teaching.reader_network import ReaderNetwork
    from generator.teaching.reader_validation import Judged
    from generator.teaching.tokens import Tokens
    from generator.teaching.training import Pupil
    from generator.teaching.writer_training import WriterPupil

VALIDATION_FIELDS = (
    "campsite",
    "computer_repair",
    "home_internet_provider",
    "mobile_network",
    "museum_of_science",
    "tenants_association",
)
MOST_BYTES = 25_000_000
"""Of the reader's and the writer's files together."""
SAMPLES = 4
COMMANDS = ("teach-reader", "save-reader", "teach-writer")


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument(
        "--answers", type=Path, required=True, metavar="FOLDER", help="of answer files, *.yml"
    )
    shared.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    shared.add_argument(
        "--validate",
        nargs="*",
        default=VALIDATION_FIELDS,
        metavar="FIELD",
        help="not learnt from (default: six of benchmarks/answers/train); none: learn from all",
    )
    shared.add_argument("--seed", type=int, default=0)
    shared.add_argument("--threads", type=int, default=1, help="CPU threads (default 1)")

    training = argparse.ArgumentParser(add_help=False)
    training.add_argument(
        "--checkpoint",
        type=Path,
        required=True,
        metavar="FILE",
        help="an interrupted training goes on from here",
    )
    training.add_argument("--minutes", type=float, help="stop then; the same command goes on")

    of_reader = argparse.ArgumentParser(add_help=False)
    of_reader.add_argument(
        "--base", type=Path, required=True, metavar="FOLDER", help="of all-MiniLM-L6-v2"
    )
    of_reader.add_argument(
        "--begin",
        type=_parts_of,
        nargs="+",
        default=[],
        metavar="PATH[=PARTS]",
        help="what earlier trainings left: their checkpoints, or the folders that they saved "
        "the reader in; of several the mean, of each so many parts (default 1)",
    )
    of_reader.add_argument(
        "--share-of-base",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="with --begin: so much of what the base has, too, stays the base's (default 0)",
    )
    of_reader.add_argument(
        "--faq", type=Path, metavar="FILE", help="frequent questions, .jsonl(.gz)"
    )
    of_reader.add_argument(
        "--texts",
        type=Path,
        nargs="+",
        default=[],
        metavar="FILE",
        help="the vocabulary keeps what is in them and in the lessons; without: everything",
    )
    of_reader.add_argument(
        "--calibration",
        type=Path,
        metavar="FILE",
        help="reader.json of a training with validation fields, for one that learns from all",
    )

    reader = commands.add_parser(
        "teach-reader",
        parents=[shared, training, of_reader],
        help="to find the sentences that answer",
    )
    reader.add_argument("--epochs", type=float)
    reader.add_argument(
        "--learning-rate",
        type=float,
        metavar="RATE",
        help="the highest; a lower one for weights that have learnt before",
    )
    commands.add_parser(
        "save-reader",
        parents=[shared, of_reader],
        help="as trainings left it, or the mean of what they left",
    )

    writer = commands.add_parser(
        "teach-writer", parents=[shared, training], help="to answer from the sentences found"
    )
    writer.add_argument(
        "--reader", type=Path, metavar="FOLDER", help="taught before (default: the shipped one)"
    )
    writer.add_argument("--epochs", type=int)


def _parts_of(text: str) -> tuple[Path, float]:
    path, _, parts = text.rpartition("=")
    try:
        found = (Path(path), float(parts)) if path else (Path(text), 1.0)
    except ValueError:
        found = (Path(text), 1.0)
    if not 0 < found[1] < math.inf:
        raise argparse.ArgumentTypeError(f"{text}: of each a positive number of parts")
    return found


def run(options: argparse.Namespace) -> int:
    import torch

    from generator.reader import BadWeights
    from generator.teaching.lesson import TeachingError

    torch.set_num_threads(options.threads)
    teach: Callable[[argparse.Namespace], None] = {
        "teach-reader": _teach_reader,
        "save-reader": _save_reader,
        "teach-writer": _teach_writer,
    }[options.command]
    try:
        options.out.mkdir(parents=True, exist_ok=True)
        if "checkpoint" in options:
            options.checkpoint.parent.mkdir(parents=True, exist_ok=True)
        teach(options)
    except (TeachingError, BadWeights, OSError) as error:
        _tell(str(error))
        return 2
    except KeyboardInterrupt:
        _tell("interrupted; the same command goes on after the last checkpoint")
        return 130
    return 0


def _teach_reader(options: argparse.Namespace) -> None:
    from generator.teaching.course import READER_PANELS
    from generator.teaching.lesson import read_answers, read_faq, split
    from generator.teaching.reader_base import base_network
    from generator.teaching.reader_training import ReaderConfig, ReaderPupil, nearest_pages
    from generator.teaching.tokens import Tokens
    from generator.teaching.training import saved_state

    config = ReaderConfig(seed=options.seed)
    if options.epochs:
        config = replace(config, epochs=options.epochs)
    if options.learning_rate:
        config = replace(config, learning_rate=options.learning_rate)
    fields, validation = split(read_answers(options.answers), options.validate)
    faq = read_faq(options.faq) if options.faq else []
    tokens = Tokens.load(options.base)
    state = saved_state(options.checkpoint)
    with _counting("what is easily confused") as on_progress:
        nearest = nearest_pages(
            base_network(options.base),
            tokens,
            [*fields, *faq],
            known=state["pupil"].get("nearest", {}) if state else {},
            on_progress=on_progress,
        )
    pupil = ReaderPupil(
        _begun(options, tokens, fields),
        tokens,
        fields,
        nearest=nearest,
        faq=faq,
        validation=validation,
        config=config,
    )
    _teach(pupil, options, "reader", READER_PANELS)
    with pupil.averaged():
        _export(options, pupil.network, pupil.weights, tokens, fields, pupil.judged())


def _save_reader(options: argparse.Namespace) -> None:
    from generator.teaching.lesson import read_answers, split
    from generator.teaching.reader_validation import judge
    from generator.teaching.tokens import Tokens

    fields, validation = split(read_answers(options.answers), options.validate)
    tokens = Tokens.load(options.base)
    network = _begun(options, tokens, fields)
    judged = judge(network, tokens, validation)
    _export(options, network, network.state_dict(), tokens, fields, judged)


def _begun(
    options: argparse.Namespace, tokens: "Tokens", fields: "Sequence[Field]"
) -> "ReaderNetwork":
    from generator.teaching.reader_base import base_network
    from generator.teaching.reader_training import begin_at, compare_words

    network = base_network(options.base, seed=options.seed)
    compare_words(network, tokens, fields)
    if options.begin:
        begin_at(network, dict(options.begin), share_of_base=options.share_of_base)
    return network


def _export(
    options: argparse.Namespace,
    network: "ReaderNetwork",
    weights: "Mapping[str, Tensor]",
    tokens: "Tokens",
    fields: "Sequence[Field]",
    judged: "Sequence[Judged]",
) -> None:
    from generator.teaching.export import export_reader
    from generator.teaching.leaning import leaning_weights
    from generator.teaching.reader_validation import calibration, figures

    calibrated = _read_calibration(options.calibration) or calibration(judged)
    _tell(f"validation: {_shown(figures(judged))}")
    _tell(f"calibration: {_shown(asdict(calibrated))}")
    lessons = [*sorted(options.answers.glob("*.yml")), *([options.faq] if options.faq else [])]
    export_reader(
        weights,
        network.shape,
        base=options.base,
        folder=options.out,
        calibration=calibrated,
        leaning=leaning_weights(network, tokens, fields),
        texts=[*lessons, *options.texts] if options.texts else (),
    )
    _tell_size(options.out)


def _read_calibration(file: Path | None) -> "Calibration | None":
    from generator.judging import Calibration
    from generator.teaching.lesson import TeachingError

    if file is None:
        return None
    try:
        return Calibration(**json.loads(file.read_text("utf-8"))["calibration"])
    except (ValueError, KeyError, TypeError) as error:
        raise TeachingError(f"{file} holds no calibration; name a reader.json") from error


def _teach_writer(options: argparse.Namespace) -> None:
    from generator.reader import PRETRAINED, Reader
    from generator.teaching.course import WRITER_PANELS
    from generator.teaching.export import export_writer
    from generator.teaching.lesson import read_answers, split
    from generator.teaching.training import saved_state
    from generator.teaching.writer_training import WriterConfig, WriterPupil, build_vocabulary

    config = WriterConfig(seed=options.seed)
    if options.epochs:
        config = replace(config, epochs=options.epochs)
    everything = read_answers(options.answers)
    fields, validation = split(everything, options.validate)
    state = saved_state(options.checkpoint)
    # A training that goes on keeps the words that its weights are for.
    known = state["pupil"].get("vocabulary") if state else None
    vocabulary = known or build_vocabulary(everything)
    reader = Reader(options.reader or PRETRAINED)
    pupil = WriterPupil(reader, vocabulary, fields, validation=validation, config=config)
    _teach(pupil, options, "writer", WRITER_PANELS)
    export_writer(pupil.weights, pupil.network.shape, vocabulary, folder=options.out)
    _tell_samples(pupil, reader, options.out)
    _tell_size(options.out)


def _teach(
    pupil: "Pupil",
    options: argparse.Namespace,
    name: str,
    panels: Mapping[str, Sequence[str]],
) -> None:
    from generator.teaching.course import Course
    from generator.teaching.training import Checkpoint, teach

    picture = options.out / f"{name}-course.svg"
    course = Course(options.checkpoint.with_suffix(".jsonl"), picture, panels)
    with _counting(f"the {name} learns") as on_progress:
        for event in teach(pupil, options.checkpoint, minutes=options.minutes):
            if isinstance(event, Checkpoint):
                course.add(event)
                step = event.step
                shown = _shown({**step.losses, **event.validation})
                _tell(f"step {step.number} of {step.of}: {shown}")
            else:
                on_progress(event.number, event.of)


def _tell_samples(pupil: "WriterPupil", reader: "Reader", folder: Path) -> None:
    """What the written file says to questions that were not learnt from."""
    from generator.writer import Writer

    writer = Writer(reader, folder)
    step = max(1, len(pupil.validation) // SAMPLES)
    for example in pupil.validation[::step][:SAMPLES]:
        question, page = example.question, example.page
        shown = [page.sentences[number].shown for number in question.support]
        draft = writer.write(question.text, question.before, page.title, shown)
        _tell(f"\n  {question.text}\n  expected: {question.answer}\n  written:  {draft.text}")


def _tell_size(folder: Path) -> None:
    files = ("reader.safetensors", "tokenizer.json", "writer.safetensors", "writer.json")
    size = sum((folder / one).stat().st_size for one in files if (folder / one).exists())
    _tell(f"saved in {folder}, {size:,} bytes")
    if size > MOST_BYTES:
        _tell(f"that is more than {MOST_BYTES:,}; name --texts, so that rare words are left out")


def _shown(figures: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.3f}" for name, value in figures.items())


def _tell(text: str) -> None:
    from rich.console import Console

    Console(stderr=True, highlight=False, soft_wrap=True).print(text, markup=False)


@contextmanager
def _counting(doing: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on standard error, if that is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as Remaining

    if not sys.stderr.isatty():
        yield lambda done, of: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Remaining())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(doing, total=None)
        yield lambda done, of: bar.update(task, completed=done, total=of)
