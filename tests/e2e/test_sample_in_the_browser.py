"""An operator labels a sample by keys, recalibrates, and takes it back, in a real browser."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.e2e.conftest import Server
from tests.trained_assistant import FAREWELLS, GREETINGS, STRANGE, fill

HOSTILE = "<img src=x onerror=alert(1)> \u202egnis"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("sample")
    fill(folder, [*GREETINGS * 7, *FAREWELLS * 7, *STRANGE * 3, HOSTILE])
    promise = {"TWOFOLD_MAX_WRONG_INSTANT": "0.6", "TWOFOLD_LEAST_IN_SCOPE": "0.7"}
    running = Server(folder, TWOFOLD_EMBEDDED_WORKER="false", **promise)
    running.admin_key = running.command("keys", "create", "op", "--scope", "admin").strip()
    running.start()
    yield running
    running.kill()


@pytest.fixture
def page(browser: Browser, server: Server) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1200, "height": 820})
    page = context.new_page()
    page.goto(f"{server.url}/admin#review/sample")
    page.get_by_test_id("sign-in-key").fill(server.admin_key)
    page.get_by_test_id("sign-in").click()
    yield page
    context.close()


def test_a_sample_is_labelled_by_keys_and_recalibrated_on(server: Server, page: Page) -> None:
    expect(page.get_by_test_id("sample-needed")).to_contain_text("The promise needs about")
    page.get_by_test_id("draw-sample").click()
    progress = page.get_by_test_id("sample-progress")
    expect(progress).to_contain_text("0 of ")
    turns = page.get_by_test_id("sampled-turn")
    expect(turns).to_have_count(20)
    assert page.locator("main img[src=x]").count() == 0
    first = turns.first.get_by_test_id("sampled-text").inner_text()
    page.keyboard.press("x")
    expect(progress).to_contain_text("1 of ")
    page.keyboard.press("u")
    expect(progress).to_contain_text("0 of ")
    expect(turns.first.get_by_test_id("sampled-text")).to_have_text(first)
    page.keyboard.press("j")
    expect(turns.nth(1)).to_be_focused()

    total = int(progress.inner_text().split()[2])
    for done in range(total):
        turn = page.locator("[data-testid=sampled-turn][aria-current]")
        said = turn.get_by_test_id("sampled-text").inner_text()
        if said in STRANGE or "img" in said:
            page.keyboard.press("o")
        else:
            intent = "greet" if said in GREETINGS else "leave"
            choice = turn.locator(f"[data-intent={intent}]")
            page.keyboard.press(choice.locator("kbd").inner_text())
        if done + 1 < total:
            expect(progress).to_contain_text(f"{done + 1} of ")
    expect(page.get_by_test_id("sample")).to_have_attribute("data-state", "complete")
    page.get_by_test_id("recalibrate").click()
    page.get_by_test_id("confirm").click()
    expect(page.get_by_test_id("sample")).to_have_attribute("data-state", "served")
    expect(page.get_by_test_id("sample-verdict")).to_contain_text("Version 2")

    page.get_by_test_id("sample-verdict").get_by_text("Roll back").click()
    live = page.locator("[data-testid=version-row][data-live=true]")
    expect(live.get_by_test_id("network-of")).to_have_text("Version 1 recalibrated ·")
    live.get_by_text("Promise").click()
    expect(live.get_by_test_id("certificate")).to_contain_text("drawn by chance")
    page.get_by_test_id("roll-back").click()
    page.get_by_test_id("confirm").click()
    expect(live).to_have_attribute("data-version", "1")
