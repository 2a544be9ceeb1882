"""What people type is shown as text, whole, and cannot pose as anything else."""

from collections.abc import Iterator
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.e2e.conftest import Server

SCRIPT = '<img src=x onerror="window.broken_in=1"><script>window.broken_in=1</script>'
TURNED = "safe\u202egpj.exe"
SAID = f"{TURNED} {SCRIPT} \U0001f469\u200d\U0001f680"
SHOWN = f"safegpj.exe {SCRIPT} \U0001f469\u200d\U0001f680"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(tmp_path_factory.mktemp("texts"), TWOFOLD_GUESTS="true")
    running.admin_key = running.command("keys", "create", TURNED, "--scope", "admin").strip()
    running.start()
    yield running
    running.kill()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context()
    yield context.new_page()
    context.close()


def test_a_script_in_a_transcript_is_text_in_the_chat(server: Server, page: Page) -> None:
    page.goto(server.url)
    page.get_by_test_id("composer").fill(SAID)
    page.get_by_test_id("send").click()
    turn = page.get_by_test_id("turn")
    expect(turn).to_have_attribute("data-status", "done")
    _shown_as_text(page, page.get_by_test_id("utterance"), SHOWN)
    page.reload()
    _shown_as_text(page, page.get_by_test_id("utterance"), SHOWN)
    row = page.get_by_test_id("open-conversation").locator("bdi")
    expect(row).to_contain_text("<img src=x onerror")
    page.get_by_test_id("delete-conversation").click()
    expect(page.get_by_test_id("dialog").locator("bdi .control")).to_have_count(1)
    assert page.evaluate("window.broken_in") is None


def test_a_script_in_a_transcript_is_text_for_the_admin(server: Server, page: Page) -> None:
    with server.client() as client:
        mine = client.post("/v1/conversations", json={}).json()["id"]
        turn = client.post(f"/v1/conversations/{mine}/turns", json={"text": SAID}).json()["id"]
        client.post("/admin/intents", json={"name": "odd", "title": SAID, "replies": [SAID]})
        client.post("/admin/intents/odd/examples", json={"from_turn": turn})
        client.put("/admin/documents/odd", json={"title": SAID, "text": f"# {SAID}\n\nText."})
    page.goto(f"{server.url}/admin")
    page.get_by_test_id("sign-in-key").fill(server.admin_key)
    page.get_by_test_id("sign-in").click()
    _marked(page.get_by_test_id("session-name"))
    page.goto(f"{server.url}/admin#intents/{quote('odd')}")
    _shown_as_text(page, page.get_by_test_id("example-text"), SHOWN)
    _shown_as_text(page, page.get_by_test_id("intent-heading").locator("bdi"), SHOWN)
    _shown_as_text(page, page.get_by_test_id("intent-row").locator("bdi"), SHOWN)
    label = page.get_by_test_id("delete-example").get_attribute("aria-label")
    assert label is not None
    assert "\u202e" not in label
    expect(page.get_by_test_id("reply-input")).to_have_value(SAID)  # what is edited is what is kept
    page.goto(f"{server.url}/admin#documents/odd")
    _shown_as_text(page, page.get_by_test_id("document-row").locator("bdi"), SHOWN)
    page.goto(f"{server.url}/admin#keys")
    _marked(page.get_by_test_id("key-row").locator("bdi"))
    assert page.evaluate("window.broken_in") is None


def test_the_review_is_worked_through_by_keys_and_undone(server: Server, page: Page) -> None:
    said = f"Can you {SAID}?"
    with server.client() as client:
        mine = client.post("/v1/conversations", json={}).json()["id"]
        for text in (said, "And another thing."):
            turn = client.post(f"/v1/conversations/{mine}/turns", json={"text": text}).json()["id"]
            rating = {"rating": "down", "comment": SAID}
            client.put(f"/v1/turns/{turn}/feedback", json=rating)
        client.post("/admin/intents", json={"name": "asked", "title": "Asked"})
    page.goto(f"{server.url}/admin#review")
    page.get_by_test_id("sign-in-key").fill(server.admin_key)
    page.get_by_test_id("sign-in").click()
    entries = page.get_by_test_id("review-entry")
    expect(entries).to_have_count(2)
    _marked(page.get_by_test_id("review-text").nth(1))
    _shown_as_text(page, page.get_by_test_id("review-comment").nth(1).locator("bdi"), SHOWN)
    page.keyboard.press("d")
    expect(entries).to_have_count(1)
    page.keyboard.press("u")
    expect(entries).to_have_count(2)
    page.keyboard.press("j")
    expect(entries.nth(1)).to_be_focused()
    entries.nth(1).get_by_test_id("label-picker").select_option("asked")
    expect(entries).to_have_count(1)
    with server.client() as client:
        taught = client.get("/admin/intents/asked/examples").json()["items"]
        assert [one["text"] for one in taught] == [said]
        page.get_by_test_id("toast-action").last.click()
        expect(entries).to_have_count(2)
        assert client.get("/admin/intents/asked/examples").json()["items"] == []
    assert page.evaluate("window.broken_in") is None


def _shown_as_text(page: Page, place: Locator, text: str) -> None:
    expect(place).to_have_text(text)
    _marked(place)
    assert page.evaluate("document.querySelector('main img[src=x], [onerror]')") is None


def _marked(place: Locator) -> None:
    """The control character is not there, a mark is; and the piece keeps to itself."""
    expect(place.locator(".control")).to_have_attribute("data-code", "202E")
    expect(place).to_have_css("unicode-bidi", "isolate")
