"""What the commands of `python -m intent` do; torch is imported only by those that need it."""

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from intent.interface import OUT_OF_SCOPE, ArtifactError, Promise, TrainingDataError

if TYPE_CHECKING:  # torch takes seconds to import, so the commands do it when they need it
    from intent.classifier import GRUClassifier
    from intent.data import TrainingSet
    from intent.fitting import Epoch, Help

MAX_LINE_BYTES = 2**20


def tell(event: dict[str, Any]) -> None:
    print(json.dumps(event, ensure_ascii=False), flush=True)


def run_train(options: argparse.Namespace) -> None:
    from intent.data import first_of, lint

    _check_folder(options.output)
    if options.unlabelled and not options.teacher:
        raise TrainingDataError(["--unlabelled needs a --teacher, who judges what nobody labelled"])
    data = _read(options.data, options.oos)
    valid = _read(options.valid) if options.valid else None
    calibration = _read(options.calibration) if options.calibration else None
    for notice in first_of(data.notices):
        print(f"note: {notice}", file=sys.stderr)
    found = lint(data)
    errors = [problem for problem in found if problem.severity == "error"]
    if errors:
        raise TrainingDataError(first_of(errors))
    for warning in first_of(found):
        print(f"warning: {warning}", file=sys.stderr)

    import torch

    from intent import artifact
    from intent.certificate import certify
    from intent.config import FINE_TUNING, TrainingConfig
    from intent.encoder import SHIPPED, PretrainedEncoder
    from intent.fitting import Epoch
    from intent.terminal import certificate_summary, summary
    from intent.training import train

    if calibration is not None:
        _check_known(calibration, data.intents, options.calibration[0])
    torch.set_num_threads(options.threads)
    sizes = {name: getattr(options, name) for name in ("cell", "layers", "directions")}
    sizes = {name: value for name, value in sizes.items() if value is not None}
    if options.layer_norm:
        sizes["layer_norm"] = True
    scratch = options.from_scratch or bool(sizes)  # an encoder brings its own sizes
    encoder = None if scratch else PretrainedEncoder.load(Path(options.encoder or SHIPPED))
    config = replace(
        FINE_TUNING if encoder else TrainingConfig(**sizes),
        seed=options.seed,
        epochs=options.epochs,
    )
    with _progress(options.progress) as show:
        for step in train(
            data,
            config,
            valid=valid,
            calibration=calibration,
            encoder=encoder,
            help=_help(options, data) if options.teacher else None,
            created_at=options.created_at,
        ):
            if isinstance(step, Epoch):
                show(step)
            else:
                trained = step
    artifact.save(trained.artifact, options.output)
    evaluation, counted = trained.evaluation, trained.artifact.calibration
    if options.progress == "json":
        tell(
            {
                "event": "saved",
                "path": options.output,
                "bytes": Path(options.output).stat().st_size,
                "data_hash": trained.artifact.card["data_hash"],
                "intents": trained.artifact.card["intents"],
                "evaluation": evaluation.to_json() if evaluation else None,
                "calibration": counted.to_json() if counted else None,
            }
        )
    else:
        if evaluation:
            print(summary(evaluation))
        print(certificate_summary(certify(counted, Promise())))
        print(f"saved {options.output}")


def _help(options: argparse.Namespace, data: "TrainingSet") -> "Help":
    from intent.fitting import Help
    from intent.teacher import TransformerTeacher, read_corpus
    from intent.tutor import Tutor

    paths = [Path(path) for path in options.unlabelled or ()]
    unlabelled = read_corpus(paths, fewest=1) if paths else []
    teacher = TransformerTeacher(Path(options.teacher))
    texts = [example.text for example in data.examples] + unlabelled

    def say(done: int, of: int) -> None:
        if options.progress == "json":
            tell({"event": "teacher", "done": done, "of": of})
        else:
            print(f"teacher: {done:,} of {of:,} messages", file=sys.stderr)

    return Help(Tutor(teacher, texts, on_progress=say), unlabelled)


def run_pretrain(options: argparse.Namespace) -> None:
    import torch

    from intent.course import Course
    from intent.encoder import PretrainedEncoder
    from intent.pretraining import PretrainingConfig, pretrain
    from intent.teacher import TransformerTeacher, embed_corpus, read_corpus

    torch.set_num_threads(options.threads)
    output = Path(options.output)
    work = Path(options.work or f"{options.output}.work")
    sentences = read_corpus([Path(path) for path in options.corpus])
    teacher = TransformerTeacher(Path(options.teacher), half=options.half)
    targets = embed_corpus(
        teacher,
        sentences,
        work,
        on_shard=lambda done, of: print(f"teacher: {done} of {of} sentences", file=sys.stderr),
    )
    config = PretrainingConfig()
    if options.epochs:
        config = replace(config, epochs=options.epochs)
    about = {
        "teacher": teacher.name,
        "corpus": [Path(path).name for path in options.corpus],
        "command": "python -m intent pretrain --corpus … --teacher … -o …",
    }
    steps = pretrain(
        sentences, targets, config, teacher=teacher, checkpoint=work / "checkpoint.pt", card=about
    )
    course = Course(work / "epochs.jsonl", output.with_suffix(".svg"))
    for step in steps:
        if isinstance(step, PretrainedEncoder):
            content = step.to_bytes()
            output.write_bytes(content)
            print(f"saved {output}, {len(content):,} bytes")
            continue
        course.add(step)
        if options.progress == "json":
            tell({"event": "epoch", **asdict(step)})
        else:
            print(
                f"epoch {step.number}/{step.of}  loss {step.train_loss:.4f}  "
                f"cosine {step.valid_cosine:.4f}  agreement {step.valid_agreement:.1%}  "
                f"{step.seconds:.0f} s",
                file=sys.stderr,
                flush=True,
            )


def run_teach_follow_ups(options: argparse.Namespace) -> None:
    import torch

    from intent.dialogues import read_dialogues
    from intent.encoder import SHIPPED, PretrainedEncoder, follow_up_file, follow_up_to_bytes
    from intent.follow_up_training import TaughtHead, teach

    torch.set_num_threads(options.threads)
    begin = Path(options.encoder or SHIPPED)
    output = Path(options.output or follow_up_file(begin))
    _check_folder(str(output))
    encoder = PretrainedEncoder.load(begin)
    dialogues = [one for path in options.dialogues for one in read_dialogues(Path(path))]
    about = {
        "corpus": [Path(path).name for path in options.dialogues],
        "command": "python -m intent teach-follow-ups --dialogues …",
    }
    print("training two classifiers that read the dialogues", file=sys.stderr)
    for step in teach(dialogues, encoder):
        if isinstance(step, TaughtHead):
            card = {**about, **step.card}
            content = follow_up_to_bytes(step.head, begin.read_bytes(), card)
            output.write_bytes(content)
            print(f"saved {output}, {len(content):,} bytes")
        else:
            print(f"epoch {step.number}/{step.of}  loss {step.loss:.4f}", file=sys.stderr)


def _read(paths: list[str], oos: list[str] | None = None) -> "TrainingSet":
    """Whatever `oos` calls its intents, all of it is out of scope."""
    from intent.data import read

    data = read(paths)
    if not oos:
        return data
    outside = read(oos)
    extra = tuple(
        replace(example, intent=OUT_OF_SCOPE) for example in outside.examples + outside.out_of_scope
    )
    return replace(
        data,
        out_of_scope=data.out_of_scope + extra,
        notices=data.notices + outside.notices,
    )


@contextmanager
def _progress(how: str) -> Iterator[Callable[["Epoch"], None]]:
    if how == "json":
        yield lambda epoch: tell({"event": "epoch", **asdict(epoch)})
    elif how == "plain" or not sys.stderr.isatty():
        yield lambda epoch: print(
            f"epoch {epoch.number}/{epoch.of}  {_figures(epoch)}", file=sys.stderr, flush=True
        )
    else:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (
            TextColumn("training"),
            BarColumn(),
            TextColumn("{task.completed}/{task.total}"),
            TimeRemainingColumn(),
            TextColumn("{task.description}"),
        )
        with Progress(*columns, console=Console(stderr=True)) as bar:
            task = bar.add_task("", total=None)
            yield lambda epoch: bar.update(
                task, total=epoch.of, completed=epoch.number, description=_figures(epoch)
            )


def _figures(epoch: "Epoch") -> str:
    figures = f"loss {epoch.train_loss:.3f}"
    if epoch.valid_loss is not None and epoch.valid_accuracy is not None:
        figures += f"  validation {epoch.valid_loss:.3f}, {epoch.valid_accuracy:.1%} right"
    return figures


def run_evaluate(options: argparse.Namespace) -> None:
    from intent.examination import examine
    from intent.terminal import progress, show_examination

    if options.report:
        _check_folder(options.report)
    data = _read(options.data, options.oos)
    if not data.examples:
        raise TrainingDataError([f"{options.data[0]}: no examples of any intent; add some"])
    training = _read(options.training) if options.training else None
    classifier = _load(options)
    if not set(data.intents) & set(classifier.intents):
        known = ", ".join(classifier.intents[:3])
        raise TrainingDataError(
            [f"{options.data[0]}: {options.file} knows none of its intents, but {known} and so on"]
        )
    with progress() as on_progress:
        examination = examine(
            classifier,
            data,
            basis="the given utterances",
            training=training,
            on_progress=on_progress,
        )
    if options.report:
        from intent.report import render

        names = ", ".join(Path(path).name for path in options.data)
        page = render(examination, title=f"{Path(options.file).name} on {names}")
        _write(options.report, page)
    if options.json:
        print(json.dumps(examination.to_json(), ensure_ascii=False))
    else:
        show_examination(examination)
        if options.report:
            print(f"saved {options.report}")


def _check_folder(output: str) -> None:
    """Said now rather than after minutes of work."""
    if not Path(output).absolute().parent.is_dir():
        raise ArtifactError(f"{output}: its folder does not exist; create it first")


def _write(output: str, page: str) -> None:
    try:
        Path(output).write_text(page, encoding="utf-8", errors="replace")
    except OSError as error:
        reason = error.strerror or "it cannot be written"
        raise ArtifactError(f"{output}: {reason}; name another file") from error


def _load(options: argparse.Namespace) -> "GRUClassifier":
    from intent.classifier import GRUClassifier

    return GRUClassifier.load(options.file)


def run_certify(options: argparse.Namespace) -> None:
    from intent import artifact
    from intent.certificate import certify
    from intent.terminal import certificate_summary
    from intent.thresholds import recount

    for output in filter(None, (options.output, options.picture)):
        _check_folder(output)
    known = artifact.load(options.file)
    if options.data:
        data = _read(options.data, options.oos)
        _check_known(data, known.intents, options.data[0])
        known = recount(known, data)
    promise = Promise(options.max_wrong, options.confidence, options.least_in_scope)
    certificate = certify(known.calibration, promise)
    if options.output:
        artifact.save(known, options.output)
    if options.picture:
        from intent.plots import risk_coverage_picture

        _write(options.picture, risk_coverage_picture(certificate))
    if options.json:
        print(json.dumps(certificate.to_json(), ensure_ascii=False))
    else:
        print(certificate_summary(certificate))


def _check_known(data: "TrainingSet", intents: Iterable[str], path: str) -> None:
    """An answer to an utterance of an unknown intent always counts as wrong."""
    others = sorted(set(data.intents) - set(intents))
    if not others:
        return
    if len(others) == len(data.intents):
        raise TrainingDataError(
            [f"{path}: the network knows none of its intents ({', '.join(others[:3])}); mend them"]
        )
    count = sum(example.intent in others for example in data.examples)
    names = ", ".join(others[:3]) + (", …" if len(others) > 3 else "")
    print(
        f"warning: {count:,} calibration utterances are of intents that the network does not know "
        f"({names}): whatever it answers, they count as wrong",
        file=sys.stderr,
    )


def run_explain(options: argparse.Namespace) -> None:
    from intent.explanation import explain
    from intent.terminal import show_explanation

    explanation = explain(_load(options), " ".join(options.text))
    if options.json:
        print(json.dumps(explanation.to_json(), ensure_ascii=False))
    else:
        show_explanation(explanation)


def run_classify(options: argparse.Namespace) -> None:
    classifier = _load(options)
    for line in _lines():
        text = _text_of(line)
        if text is None:
            tell({"error": 'expected one object with a text: {"text": "..."}'})
        else:
            tell(classifier.classify(text).to_json())


def _lines() -> Iterator[bytes]:
    """Lines of standard input; one that is too long comes as its beginning, cut."""
    while line := sys.stdin.buffer.readline(MAX_LINE_BYTES):
        rest = line
        while not rest.endswith(b"\n") and len(rest) == MAX_LINE_BYTES:
            rest = sys.stdin.buffer.readline(MAX_LINE_BYTES)
        if line.strip():
            yield line


def _text_of(line: bytes) -> str | None:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    text = row.get("text") if isinstance(row, dict) else None
    return text if isinstance(text, str) else None
