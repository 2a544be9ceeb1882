"""Tokens that become text piece by piece."""

from generator.spoken_text import SpokenText


def test_text_that_could_still_become_a_stop_string_is_held_back() -> None:
    said: list[str] = []
    text = SpokenText(lambda ids: "".join(map(chr, ids)), said.append, ("END",))
    for char in "an E then ENDING":
        text.add([ord(char)])
    assert "".join(said) == "an E then "
    assert text.stopped


def test_half_a_character_is_held_back() -> None:
    said: list[str] = []
    text = SpokenText(lambda ids: bytes(ids).decode("utf-8", "replace"), said.append)
    for byte in "4 €".encode():
        text.add([byte])
    text.finish()
    assert said == ["4", " ", "€"]
