"""The reader and the writer learn, are exported, and are served as they were taught."""

import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from generator.interface import ChatMessage, Passage
from generator.judging import Calibration
from generator.question import LEANING_FEATURES
from generator.question import Question as Said
from generator.reader import TITLE_WEIGHT, Reader
from generator.teaching.export import export_reader, export_writer
from generator.teaching.leaning import leaning_weights
from generator.teaching.lesson import (
    Field,
    Page,
    Question,
    TeachingError,
)
from generator.teaching.optimization import MixedPrecision
from generator.teaching.reader_base import base_network
from generator.teaching.reader_network import ReaderNetwork
from generator.teaching.reader_training import (
    compare_words,
)
from generator.teaching.reader_validation import judge
from generator.teaching.tokens import Tokens, padded, page_batch
from generator.teaching.training import Checkpoint, Pupil, Step, teach
from generator.teaching.writer_network import WriterNetwork, WriterShape
from generator.teaching.writer_training import (
    WriterConfig,
    WriterPupil,
    build_vocabulary,
    examples_of,
    features_of,
    word_losses,
)
from generator.writer import Writer

from .small_lessons import THINGS
from .small_reader import READER, reader_pupil
from .test_reader_validation import supported

CALIBRATED = Calibration(
    odds=0.8, closeness=-2.0, lead=3.0, length=2.0, matched=1.5, least=-1.0, offset=-3.0
)
WRITER = WriterConfig(epochs=12, batch_size=16, learning_rate=5e-3, warm_up=5)


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def taught_reader(base: Path, fields: list[Field], tmp_path_factory: pytest.TempPathFactory):
    """The pupil, and every step of its way."""
    pupil = reader_pupil(base, fields[2:], validation=fields[:2])
    events = list(teach(pupil, tmp_path_factory.mktemp("reader") / "checkpoint.pt"))
    return pupil, events


@pytest.fixture(scope="module")
def reader_weights(taught_reader) -> dict[str, torch.Tensor]:
    """As taught, but for what marks a passage, and what the pointer's inputs weigh: in so few steps
    the one hardly leaves zero, and the others decide little."""
    pupil, _ = taught_reader
    marks = torch.randn(
        pupil.weights["of_passage"].shape, generator=torch.Generator().manual_seed(7)
    )
    weights = {**pupil.weights, "of_passage": 4 * marks}
    for head, pointed, times in (("score", 2, 10), ("nothing", 1, 100)):
        weights[f"{head}.0.weight"] = weights[f"{head}.0.weight"].clone()
        weights[f"{head}.0.weight"][:, -pointed:] *= times
    return weights


@pytest.fixture(scope="module")
def served_reader(
    base: Path, taught_reader, reader_weights, tmp_path_factory: pytest.TempPathFactory
) -> Reader:
    pupil, _ = taught_reader
    folder = tmp_path_factory.mktemp("served")
    export_reader(
        reader_weights, pupil.network.shape, base=base, folder=folder, calibration=CALIBRATED
    )
    return Reader(folder)


def writer_pupil(reader: Reader, fields, *, validation=()) -> WriterPupil:
    vocabulary = build_vocabulary(fields)
    shape = WriterShape(
        len(vocabulary), features_of(reader), width=32, heads=4, inner=64,
        encoder_layers=1, decoder_layers=1,
    )  # fmt: skip
    return WriterPupil(
        reader, vocabulary, fields, validation=validation, config=WRITER, shape=shape
    )


# --- the reader ---


def test_the_network_begins_as_the_bert_that_it_is_based_on(base: Path) -> None:
    from transformers import BertModel

    bert = BertModel.from_pretrained(base, local_files_only=True).eval()
    network = base_network(base).eval()
    ids, present = padded([[3, 9, 11, 30, 4], [3, 17, 4]])
    with torch.inference_mode():
        expected = bert(ids, attention_mask=present.long()).last_hidden_state
        states = network.encode(ids, present).last
    torch.testing.assert_close(states[present], expected[present], atol=1e-4, rtol=1e-4)


def test_a_folder_without_a_base_says_what_to_name(tmp_path: Path) -> None:
    with pytest.raises(TeachingError, match=r"config\.json, model\.safetensors"):
        base_network(tmp_path)


def test_what_stands_beside_them_in_a_batch_changes_no_scores(
    base: Path, fields: list[Field]
) -> None:
    network, tokens = base_network(base).eval(), Tokens.load(base)
    with torch.no_grad():  # otherwise no head would show where it looks
        for parameter in network.new_parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    field = fields[0]
    long = replace(field.questions[0], text=" ".join(THINGS))
    short_page = Page("", field.pages[0].sentences[:1])
    questions, pages = [*field.questions[:9], long], [*field.pages, short_page]
    pairs = [(question, page) for question in range(10) for page in range(5)]
    together = scores(network, tokens, questions, pages, pairs)
    for row, (question, page) in zip(together, pairs, strict=True):
        (alone,) = scores(network, tokens, [questions[question]], [pages[page]], [(0, 0)])
        torch.testing.assert_close(row[: len(alone)], alone, atol=1e-4, rtol=1e-4)


def scores(
    network: ReaderNetwork,
    tokens: Tokens,
    questions: list[Question],
    pages: list[Page],
    pairs: list[tuple[int, int]],
) -> torch.Tensor:
    with torch.inference_mode():
        told = network.tell(page_batch([tokens.page(page) for page in pages]))
        asked = network.ask(*padded([tokens.question(one.text, one.before) for one in questions]))
        return network.scores(asked, told, pairs).sentences


def test_the_reader_learns_to_find_to_read_and_to_see_that_nothing_answers(taught_reader) -> None:
    pupil, events = taught_reader
    steps = [event for event in events if isinstance(event, Step)]
    assert steps[-1].losses["reading"] < 0.6 * steps[0].losses["reading"]
    assert steps[-1].losses["finding"] < 0.8 * steps[0].losses["finding"]
    assert steps[-1].losses["pointing"] < 0.6 * steps[0].losses["pointing"]
    last = events[-1]
    assert isinstance(last, Checkpoint)
    assert last.step.number == pupil.steps
    assert last.validation["sentence@1"] > 0.6
    assert last.validation["AUROC"] > 0.7
    assert last.validation["page@5"] == 1.0


def test_what_is_served_is_what_was_taught(
    base: Path, fields: list[Field], taught_reader, reader_weights, served_reader: Reader
) -> None:
    pupil, _ = taught_reader
    network = ReaderNetwork(pupil.network.shape).eval()
    network.load_state_dict(reader_weights)
    tokens = Tokens.load(base)
    field = fields[0]
    passages = [
        Passage(str(n), page.title, page.sentences[0].passage.text, "")
        for n, page in enumerate(field.pages)
    ]
    vectors = served_reader.passage_vectors(passages)
    differences, spread = [], []
    for question, one in zip(field.questions, judge(network, tokens, [field]), strict=True):
        said = Said(question.text, question.before)
        reading = served_reader.read(said, passages)
        served = {
            (int(one.sentence.passage.id), one.sentence.position): one.share
            for one in reading.sentences
        }
        pairs = [(0, page) for page in range(len(passages))]
        scored = scores(network, tokens, [question], list(field.pages), pairs)
        shares = torch.cat([scored.flatten(), torch.zeros(1)]).softmax(0)
        places = [(page, number) for page in range(len(passages)) for number in range(3)]
        for place, share in zip(places, shares.tolist(), strict=False):
            differences.append(abs(served[place] - share))
        differences.append(abs(reading.support - supported(one, CALIBRATED)))
        spread.append(shares.max().item() - shares.min().item())
        with torch.inference_mode():
            told = network.tell(page_batch([tokens.page(page) for page in field.pages]))
            asked = network.ask(*padded([tokens.question(question.text)]))
            close = network.closenesses(asked, told)[0]
            titles = network.ask(*padded([tokens.question(page.title) for page in field.pages]))
            titled = functional.cosine_similarity(asked.vectors, titles.vectors)
            matched = network.matched(asked, told)
        alone = served_reader.question_vectors(Said(question.text))
        for page, found in enumerate(vectors):
            expected = close[page] + TITLE_WEIGHT * titled[page]
            cosines = torch.from_numpy(found.sentences @ alone.whole)
            torch.testing.assert_close(cosines, expected, atol=0.06, rtol=0)
            least = sum(sorted(alone.cosines(found.words))[:2]) / 2
            of_page = torch.tensor([alone.matched(found.words), least])
            expected = torch.stack([matched.pages[0, page], matched.least[0, page]])
            torch.testing.assert_close(of_page, expected, atol=0.06, rtol=0)
        for each in served_reader.read(Said(question.text), passages).sentences:
            page, place = int(each.sentence.passage.id), each.sentence.position
            expected_there = matched.sentences[0, page, place].item()
            assert each.matched == pytest.approx(expected_there, abs=0.06)
    assert max(differences) < 0.1
    assert sum(differences) / len(differences) < 0.01
    assert max(spread) > 0.5


def test_words_are_compared_along_the_directions_in_which_they_differ(
    base: Path, fields: list[Field]
) -> None:
    network, tokens = base_network(base), Tokens.load(base)
    batch = page_batch([tokens.page(page) for page in fields[0].pages])
    with torch.inference_mode():
        words = network.eval().encode(batch.ids, batch.present).last[batch.present]

    def lost() -> float:
        """Of their lengths, what the narrow vectors do not hold, at best."""
        narrow = network.narrow.weight.detach()
        kept = words @ torch.linalg.pinv(narrow) @ narrow
        return ((words - kept).norm() / words.norm()).item()

    network.narrow = torch.nn.Linear(network.shape.width, 4, bias=False)
    network.shape = replace(network.shape, narrow=4)
    at_random = lost()
    compare_words(network, tokens, fields)
    assert lost() < 0.8 * at_random
    everywhere, thing = (tokens.question(THINGS[0])[place] for place in (0, 1))
    assert network.rarity[everywhere] < network.rarity[thing]


def test_a_base_with_fewer_layers_reads_together_in_the_upper_ones(served_reader: Reader) -> None:
    assert (served_reader.shape.layers, served_reader.shape.alone) == (2, 1)


# --- going on ---


@pytest.mark.parametrize("kind", ["reader", "writer"])
def test_a_training_that_was_interrupted_ends_as_one_that_was_not(
    kind: str, base: Path, fields: list[Field], served_reader: Reader, tmp_path: Path
) -> None:
    def pupil() -> Pupil:
        if kind == "reader":
            return reader_pupil(base, fields[:3], config=replace(READER, epochs=1.5))
        return writer_pupil(served_reader, fields[:3])

    whole = pupil()
    steps = [one for one in teach(whole, tmp_path / "whole.pt") if isinstance(one, Step)]
    after: list[Step] = []
    while len(after) < len(steps):
        torch.manual_seed(random.randrange(1000))  # whatever another program drew
        going_on = pupil()
        events = teach(going_on, tmp_path / "parts.pt", minutes=0)
        after += [one for one in events if isinstance(one, Step)]
    assert after == steps
    for name, weight in whole.weights.items():
        assert torch.equal(weight, going_on.weights[name]), name
    assert list(teach(pupil(), tmp_path / "parts.pt")) == []


def test_a_checkpoint_of_another_network_is_refused(
    base: Path, fields: list[Field], served_reader: Reader, tmp_path: Path
) -> None:
    file = tmp_path / "checkpoint.pt"
    list(teach(writer_pupil(served_reader, fields[:3]), file, minutes=0))
    with pytest.raises(TeachingError, match="name another file"):
        list(teach(reader_pupil(base, fields[:3]), file))
    file.write_bytes(b"nothing")
    with pytest.raises(TeachingError, match="remove it to begin anew"):
        list(teach(reader_pupil(base, fields[:3]), file))


def test_with_other_answer_files_a_training_goes_on(
    base: Path, fields: list[Field], served_reader: Reader, tmp_path: Path
) -> None:
    file = tmp_path / "checkpoint.pt"
    list(teach(reader_pupil(base, fields[:3]), file, minutes=0))
    first, *_ = teach(reader_pupil(base, fields[4:]), file, minutes=0)
    assert isinstance(first, Step)
    assert first.number == 2


def test_the_weights_are_a_mean_of_the_last_steps_and_the_steps_go_on_beside_it() -> None:
    """Towards 1, which the weight reaches in small steps: the mean comes behind."""
    layer = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(layer.weight)
    optimizer = MixedPrecision(layer, learning_rate=0.05, weight_decay=0.0)
    for _ in range(12):
        optimizer.step((layer.weight - 1).square().sum(), 1.0)
    reached, mean = layer.weight.item(), optimizer.means["weight"].item()
    assert 0 < mean < reached < 1
    with optimizer.averaged():
        assert layer.weight.item() == mean
    assert layer.weight.item() == reached


def test_follow_ups_are_told_from_questions_that_stand_alone(
    base: Path, fields: list[Field], tmp_path: Path
) -> None:
    network, tokens = base_network(base), Tokens.load(base)
    weights = leaning_weights(network, tokens, fields[2:])
    export_reader(network.state_dict(), network.shape, base=base, folder=tmp_path, leaning=weights)
    reader = Reader(tmp_path)
    for question in fields[0].questions:
        said = [ChatMessage("user", question.before or "hello"), ChatMessage("user", question.text)]
        assert bool(reader.question(said).before) == bool(question.before), question.text
    untaught = leaning_weights(network, tokens, [])
    assert untaught.tolist() == [0.0] * (network.shape.width + LEANING_FEATURES + 1)


# --- the writer ---


def test_only_common_words_can_be_said_without_a_source(fields: list[Field]) -> None:
    assert build_vocabulary(fields) == ["<eos>", "I", ".", "euros", "o'clock"]
    assert build_vocabulary(fields[:3]) == ["<eos>", "I"]
    assert examples_of([with_answers(fields[0], "It is red.")], build_vocabulary(fields)) == []
    assert len(examples_of(fields[:1], build_vocabulary(fields))) == 12


def test_the_writer_learns_and_is_served_as_it_was_taught(
    fields: list[Field], served_reader: Reader, tmp_path: Path
) -> None:
    pupil = writer_pupil(served_reader, fields, validation=fields[:1])
    events = list(teach(pupil, tmp_path / "checkpoint.pt"))
    checkpoints = [event for event in events if isinstance(event, Checkpoint)]
    losses = [checkpoint.validation["validation"] for checkpoint in checkpoints]
    assert losses[-1] < 0.6 * losses[0]
    export_writer(pupil.weights, pupil.network.shape, pupil.vocabulary, folder=tmp_path)
    writer = Writer(served_reader, tmp_path)
    network = WriterNetwork(pupil.network.shape).eval()
    network.load_state_dict(pupil.weights)
    written: set[str] = set()
    for example in pupil.validation:
        question, page = example.question, example.page
        shown = [page.sentences[number].shown for number in question.support]
        draft = writer.write(question.text, question.before, page.title, shown)
        written.add(draft.text)
        words = draft.text.split(" ")
        words = [*words[:-1], words[-1].removesuffix("."), "."]
        batch = pupil.batch([replace(example, answer=tuple(words))], [question.support])
        batch = replace(batch, source=batch.source.float(), written=batch.written.float())
        with torch.inference_mode():
            least = (-word_losses(network, batch).max()).exp().item()
        assert draft.complete
        assert draft.confidence == pytest.approx(least, abs=0.03)
    assert len(written) > 1


def with_answers(field: Field, answer: str) -> Field:
    questions = [replace(one, answer=answer) for one in field.questions]
    return replace(field, questions=tuple(questions))
