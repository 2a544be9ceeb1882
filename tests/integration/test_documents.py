"""Bad documents through the admin API: a clear error or good passages, and nothing is lost."""

from collections.abc import Iterator

import pytest

from generator.documents import MOST_CHARACTERS, MOST_CHARACTERS_IN_A_PASSAGE
from generator.embedded import EmbeddedGenerator
from tests.integration.conftest import Served, serving
from tests.integration.routes import assert_problem, table_contents

GOOD = "# Parcels\n\nA parcel takes three days."
QUESTION = "how long does a parcel take?"
URL = "/admin/documents/parcels"

BOMBS = {
    "stars": "*" * 100_000,
    "pairs of stars": "*a " * 30_000,
    "lines of underscores": "_" * 100_000,
    "ticks": "`" * 100_000,
    "fences": "```\n" * 30_000,
    "quotations in quotations": "> " * 50_000,
    "lists in lists": "\n".join(" " * depth + "- item" for depth in range(400)),
    "brackets": "[" * 100_000,
    "links": "[a](" * 50_000,
    "links by reference": "[a][b]" * 30_000 + "\n\n[b]: /x\n",
    "references": "".join(f"[x{n}]: /{n} 'x'\n" for n in range(5_000)),
    "images": "![" * 50_000,
    "a wide table": "|" + "a|" * 50_000 + "\n|" + "-|" * 50_000,
    "dots": "." * 200_000,
    "sharps": "#" * 100_000,
    "backslashes": "\\" * 100_000,
    "angles": "<http://" * 30_000,
    "blanks": "a" + " " * 200_000,
    "one long word": "parcel" * 30_000,
    "no spaces": "包裹三天到。" * 30_000,
    "twenty thousand words": "parcel " * 20_000,
}
PAGES = {
    "deep": "<b>" * 300,
    "attributes": "<p " + "a=b " * 50_000 + ">",
    "entities": "&amp;" * 50_000,
}


@pytest.fixture(scope="module")
def answering(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    from app.settings import Settings

    folder = tmp_path_factory.mktemp("documents")
    database = f"sqlite:///{folder / 'twofold.db'}"
    settings = Settings(_env_file=None, database_url=database, data_dir=folder)
    with serving(settings, EmbeddedGenerator.load()) as served:
        yield served


def put(served: Served, text: str, kind: str = "markdown", url: str = URL):
    return served.client.put(url, json={"text": text, "format": kind}, headers=served.admin)


def answer(served: Served) -> dict:
    return served.say(served.conversation(), QUESTION).json()


@pytest.mark.parametrize("name", [*BOMBS, *PAGES])
def test_a_bomb_is_cut_into_passages_that_can_be_answered_from(
    answering: Served, name: str
) -> None:
    bomb, kind = (BOMBS[name], "markdown") if name in BOMBS else (PAGES[name], "html")
    bomb += "<p>" if kind == "html" else "\n\n"
    stored = put(answering, f"{bomb}The parcel takes nine days.", kind)
    assert stored.status_code == 200, stored.text
    told = answer(answering)
    assert (told["status"], told["generator"]) == ("done", "embedded")
    assert len(told["reply"]) < 4 * MOST_CHARACTERS_IN_A_PASSAGE
    put(answering, GOOD)
    assert "three days" in answer(answering)["reply"]


def test_what_cannot_be_a_document_is_refused_and_the_old_one_answers(served: Served) -> None:
    put(served, GOOD)
    before = table_contents(served)
    headers = served.admin | {"Content-Type": "application/json"}

    def put_bytes(body: bytes):
        return served.client.put(URL, content=body, headers=headers)

    refused = {
        422: [
            put(served, ""),
            put(served, " \n\t"),
            put(served, "# Only\n\n## Headings"),
            put(served, "<script>alert(1)</script>", "html"),
            put(served, "<div>" * 5_000 + "deep", "html"),
            put(served, "<table>" + "<tr><td colspan=9999>x" * 2_000, "html"),
            put(served, "a" * (MOST_CHARACTERS + 1)),
            put(served, "\x89PNG\r\n\x00\x00"),
            put(served, GOOD, url="/admin/documents/twin"),
        ],
        413: [put(served, "a" * 2_000_000), put_bytes(b'{"text": "' + b"a" * 50_000_000 + b'"}')],
        400: [
            put_bytes('{"text": "Grüße"}'.encode("latin-1")),
            put_bytes('{"text": "words"}'.encode("utf-16")),
            put_bytes(b"\x89PNG\r\n\x1a\n\x00\x00"),
        ],
    }
    for status, responses in refused.items():
        for response in responses:
            problem = assert_problem(response, status)
            assert problem["detail"]
    assert table_contents(served) == before


def test_of_a_page_no_script_is_kept(answering: Served) -> None:
    page = (
        "<h1 onclick=steal()>Parcels</h1><script>steal()</script><style>p{}</style>"
        "<p>A parcel takes <a href='javascript:steal()'>four</a> days.</p>"
        "<svg onload=steal()></svg><iframe srcdoc='<script>steal()</script>'></iframe>"
    )
    stored = put(answering, page, "html").json()
    told = answer(answering)
    assert "four days" in told["reply"]
    assert "steal" not in told["reply"]
    for unseen in ("script>", "onclick", "onload", "srcdoc", "p{}"):
        assert unseen not in stored["text"]
