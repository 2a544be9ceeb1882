"""Documents of every kind become Markdown, and the hostile ones an error."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from generator.documents import (
    MOST_CHARACTERS,
    DocumentError,
    cut,
    passages_of,
    read,
    read_folder,
    to_markdown,
)
from generator.sentences import sentences_of

PAGE = """<!doctype html><html><head><title>Shop</title><style>p{}</style>
<script>alert("stolen")</script></head><body>
<nav><a href="/">Home</a></nav>
<main><h1>Returns</h1><p>Send it <b>back</b> within 30&nbsp;days &amp; relax.</p>
<h2>Costs</h2>
<ul><li>Shoes: <a href="https://shop.example/costs">€4</a></li><li>Hats: free</li></ul>
<table><tr><th>Country</th><th>Days</th></tr><tr><td>Norway</td><td>6</td></tr></table>
<!-- secret --><img src="data:image/png;base64,AAAA" alt="">
<form><label>Your mail<input value="filled"></label></form>
<iframe src="https://elsewhere.example">framed</iframe><noscript>switch it on</noscript>
<svg><script>alert(2)</script></svg></main></body></html>"""


def test_of_html_what_a_reader_sees_is_kept() -> None:
    heading, pieces = cut(to_markdown(PAGE, "html"))
    assert heading == "Returns"
    assert [title for title, _ in pieces] == ["Returns", "Costs"]
    text = "\n".join(body for _, body in pieces)
    assert "Send it **back** within 30" in text
    assert "days & relax." in text
    assert "- Shoes: [€4](https://shop.example/costs)" in text
    assert re.search(r"\| Norway +\| 6 +\|", text)
    for unseen in ("alert", "secret", "Home", "base64", "Your mail", "framed", "switch", "p{}"):
        assert unseen not in text


@pytest.mark.parametrize(
    ("rows", "shown"),
    [
        ("<tr><td>Mon</td><td>9-17</td></tr><tr><td>Tue</td><td>9-18</td></tr>",
         ["Mon, 9-17", "Tue, 9-18"]),
        ("<tr><th>Mon</th><td>9-17</td></tr><tr><th>Tue</th><td>9-18</td></tr>",
         ["Mon, 9-17", "Tue, 9-18"]),
        ("<tbody><TR><TH>Day<TH>Open<TR><TD>Tue<TD>9-18", ["Day: Tue, Open: 9-18"]),
        ("<thead><tr><td>Day<td>Open</thead><tr><td>Tue<td>9-18", ["Day: Tue, Open: 9-18"]),
    ],
)  # fmt: skip
def test_columns_have_the_names_that_the_table_gives_them(rows: str, shown: list[str]) -> None:
    markdown = to_markdown(f"<p>When.</p><table class='x'>{rows}</table>", "html")
    (passage,) = passages_of("a.html", markdown)
    assert [one.shown for one in sentences_of(passage)] == ["When.", *shown]


def test_letters_that_entities_put_together_are_one_letter_and_control_characters_none() -> None:
    assert to_markdown("<p>cafe&#x301;</p>", "html") == "caf\u00e9"
    told = to_markdown("<p>a&#1;b&#0;c&#xD800;d</p>", "html")
    assert not any(one < " " or "\ud800" <= one <= "\udfff" for one in told)


def test_plain_text_has_no_headings() -> None:
    _, pieces = cut(to_markdown("# 12 is our house number\n\nRing twice.", "text"))
    assert pieces == [("", "\\# 12 is our house number\n\nRing twice.")]


@pytest.mark.parametrize(
    ("content", "kind", "remedy"),
    [
        ("", "markdown", "is empty"),
        (" \n\t", "text", "is empty"),
        ("<script>alert(1)</script>", "html", "is empty"),
        ("# One\n\n## Two", "markdown", "headings only"),
        ("<h1>One</h1>", "html", "headings only"),
        ("a" * (MOST_CHARACTERS + 1), "text", "several documents"),
        ("<div>" * 5000 + "lost" + "</div>" * 5000 + "<p>found</p>", "html", "too deeply"),
        ("<!--" * 100_000, "html", "is empty"),
        ("<a" * 200_000, "html", "is empty"),
    ],
)
def test_what_cannot_be_read_is_refused_with_a_remedy(content, kind, remedy) -> None:
    with pytest.raises(DocumentError, match=remedy):
        to_markdown(content, kind)


@given(
    st.lists(
        st.sampled_from(
            ["<", ">", "</", "<p>", "<table>", "<td ", "x", '"', "&", "&#0;", "<ul><li>"]
        ),
        max_size=400,
    )
)
def test_any_tags_are_markdown_or_an_error(pieces: list[str]) -> None:
    try:
        markdown = to_markdown("".join(pieces), "html")
    except DocumentError:
        return
    assert cut(markdown)[1]


@pytest.mark.parametrize(
    ("content", "remedy"),
    [
        (b"\x89PNG\0\0", "is no text"),
        ("Grüße".encode("latin-1"), "save it as UTF-8"),
        ("words".encode("utf-16"), "save it as UTF-8"),
        (b"a" * (4 * MOST_CHARACTERS + 1), "several documents"),
    ],
)
def test_a_file_that_is_no_text_is_refused_by_its_name(
    tmp_path: Path, content: bytes, remedy: str
) -> None:
    file = tmp_path / "help.txt"
    file.write_bytes(content)
    with pytest.raises(DocumentError, match=remedy):
        read(file)
    with pytest.raises(DocumentError, match=f"^{re.escape(str(file))} "):
        read_folder(tmp_path)


def test_a_folder_holds_documents_of_every_kind(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(PAGE)
    (tmp_path / "b.md").write_text("\ufeff# Hours\n\nFrom nine to five.", "utf-8")
    (tmp_path / "c.txt").write_text("We ship on Mondays.")
    (tmp_path / "d.png").write_bytes(b"\0")
    passages = read_folder(tmp_path)
    assert [(one.id, one.title) for one in passages] == [
        ("a.html#0", "Returns"),
        ("a.html#1", "Costs"),
        ("b.md#0", "Hours"),
        ("c.txt#0", "c.txt"),
    ]
    assert passages[2].text == "From nine to five."
