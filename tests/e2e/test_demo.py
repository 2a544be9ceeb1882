"""A visitor talks to the demo, and an operator teaches it, in a real browser. Its process is small,
idle when nobody asks, and whole after a restart."""

import json
import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, expect

from tests.e2e.conftest import Server

REPLY_MS = 20_000
TRAINING_MS = 600_000

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Trained once for all tests."""
    server = Server(tmp_path_factory.mktemp("demo"), "--demo").start()
    yield server
    server.kill()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A fresh visitor. Whatever the page's security policy refuses fails the test."""
    context = browser.new_context(viewport={"width": 1200, "height": 820})
    page = context.new_page()
    complaints: list[str] = []

    def listen(message: ConsoleMessage) -> None:
        if re.search("Content Security Policy|Trusted", message.text, re.IGNORECASE):
            complaints.append(message.text)

    page.on("console", listen)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    yield page
    context.close()
    assert complaints == []


def test_ten_turns_of_every_kind(demo: Server, page: Page) -> None:
    page.goto(demo.url)
    expect(page.get_by_test_id("greeting")).to_contain_text("Juno")

    for text, fact in (
        ("hello", "Juno"),
        ("where is my parcel?", "tracking link"),
        ("I forgot my password", "Forgot password"),
        ("can I pay with paypal?", "PayPal"),
        ("what are your opening hours", "Monday to Saturday"),
        ("I want to return my boots", "60 days"),
    ):
        turn = say(page, text)
        expect(turn).to_have_attribute("data-route", "instant")
        expect(turn.get_by_test_id("reply")).to_contain_text(fact)
        expect(turn.get_by_test_id("ms")).to_be_visible()

    for text, fact, source in (
        ("Does the tent warranty cover broken poles?", "broken poles", "Warranty and repairs"),
        ("Do gift cards expire?", "3 years", "Gift cards"),
    ):
        turn = say(page, text)
        expect(turn).to_have_attribute("data-route", "generate")
        expect(turn.get_by_test_id("reply")).to_contain_text(fact)
        expect(turn.get_by_test_id("citation").first).to_contain_text(source)

    turn = say(page, "What is the capital of Mongolia?")
    expect(turn).to_have_attribute("data-route", "generate")
    expect(turn.get_by_test_id("citation")).to_have_count(0)
    expect(turn.get_by_test_id("reply")).to_contain_text(re.compile("know|person|colleague"))

    turn = say(page, "my order")
    expect(turn).to_have_attribute("data-route", "clarify")
    expect(turn.get_by_test_id("reply")).to_contain_text("did you mean")
    turn.get_by_test_id("choice").first.click()
    expect(page.get_by_test_id("turn")).to_have_count(11)
    expect(page.get_by_test_id("turn").last).to_have_attribute("data-route", "instant")


def test_a_conversation_is_there_after_a_reload(demo: Server, page: Page) -> None:
    page.goto(demo.url)
    say(page, "tell me a joke")
    joke = page.get_by_test_id("reply").last.inner_text()
    page.reload()
    page.get_by_test_id("open-conversation").first.click()
    expect(page.get_by_test_id("turn")).to_have_count(1)
    expect(page.get_by_test_id("reply").last).to_have_text(joke)


def test_an_operator_teaches_it_something_new(demo: Server, page: Page, browser: Browser) -> None:
    question = "can you wrap it as a gift?"
    page.goto(f"{demo.url}/admin")
    page.get_by_test_id("sign-in-key").fill(demo.admin_key)
    page.get_by_test_id("sign-in").click()

    page.get_by_test_id("new-intent").click()
    form = page.get_by_test_id("new-intent-form")
    form.get_by_test_id("intent-name").fill("gift_wrapping")
    form.get_by_test_id("intent-title").fill("Have it gift-wrapped")
    form.get_by_test_id("reply-input").fill("We wrap it in cloth you can use again, for £3.")
    form.get_by_test_id("example-input").fill("\n".join(GIFT_WRAPPING))
    form.get_by_test_id("create-intent").click()
    expect(page.get_by_test_id("intent-list")).to_contain_text("gift_wrapping")

    page.goto(f"{demo.url}/admin#training")
    page.get_by_test_id("train").click()
    expect(page.get_by_test_id("loss-curve")).to_be_visible(timeout=TRAINING_MS)
    promote = page.get_by_test_id("promote")
    expect(promote).to_be_visible(timeout=TRAINING_MS)
    promote.click()
    expect(page.get_by_test_id("promoted").first).to_be_visible(timeout=REPLY_MS)

    page.goto(f"{demo.url}/admin#versions")
    certificate = page.get_by_test_id("certificate").first
    certificate.get_by_text("Promise").click()
    expect(certificate.get_by_test_id("certificate-says")).not_to_be_empty()
    expect(certificate.get_by_test_id("risk-coverage")).to_be_visible()

    visitor = browser.new_context().new_page()
    visitor.goto(demo.url)
    turn = say(visitor, question)
    expect(turn).to_have_attribute("data-route", "instant")
    expect(turn.get_by_test_id("reply")).to_contain_text("cloth you can use again")
    visitor.context.close()


GIFT_WRAPPING = """do you wrap gifts
can you gift wrap my order
is gift wrapping available
please wrap it as a present
I'd like this wrapped for a birthday
gift wrap
do you offer wrapping paper
could you wrap the mug nicely
how do I add gift wrapping
wrap it up as a gift please
can it come wrapped as a present
do you wrap presents for Christmas
I need it gift-wrapped
wrapping service
is there a gift wrapping option at checkout
can someone wrap this for my mum
what does gift wrapping cost
do you put a bow on it
wrapped as a gift possible?
I want my parcel wrapped nicely""".splitlines()


def test_the_keyboard_is_enough(demo: Server, page: Page) -> None:
    page.goto(demo.url)
    expect(page.get_by_test_id("composer")).to_be_enabled()
    page.get_by_test_id("composer").focus()
    page.keyboard.type("first line")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("second line")
    expect(page.get_by_test_id("composer")).to_have_value("first line\nsecond line")
    page.keyboard.press("Enter")
    expect(page.get_by_test_id("composer")).to_have_value("")
    expect(page.get_by_test_id("turn").last).to_have_attribute(
        "data-status", "done", timeout=REPLY_MS
    )


def test_script_in_a_message_stays_text(demo: Server, page: Page) -> None:
    page.goto(demo.url)
    hostile = "<img src=x onerror=alert(1)><script>alert(2)</script>"
    say(page, hostile)
    expect(page.get_by_test_id("utterance").last).to_have_text(hostile)
    assert page.locator("img[src=x]").count() == 0


def test_a_phone_shows_the_whole_chat(demo: Server, browser: Browser) -> None:
    context = browser.new_context(viewport={"width": 360, "height": 740}, color_scheme="dark")
    page = context.new_page()
    page.goto(demo.url)
    say(page, "hello")
    overflow = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    assert overflow <= 0
    expect(page.get_by_test_id("send")).to_be_in_viewport()
    context.close()


def test_doctor_finds_a_small_and_idle_server(demo: Server) -> None:
    said = demo.command("doctor", "--json", may_fail=True)
    findings = {one["name"]: one for one in json.loads(said)}
    assert all(one["fine"] for one in findings.values()), findings
    assert "MB (at most 450)" in findings["server"]["detail"]


def test_a_second_start_needs_no_training_and_shows_no_key(demo: Server) -> None:
    with demo.client() as client:
        before = client.get("/admin/model-versions").json()
    demo.stop()
    demo.start()
    assert demo.admin_key not in demo.said
    assert "Training" not in demo.said
    with demo.client() as client:
        assert client.get("/admin/model-versions").json() == before


def say(page: Page, text: str) -> Locator:
    """Types into the composer as a person does; returns the finished turn."""
    before = page.get_by_test_id("turn").count()
    page.get_by_test_id("composer").fill(text)
    page.get_by_test_id("composer").press("Enter")
    expect(page.get_by_test_id("turn")).to_have_count(before + 1, timeout=REPLY_MS)
    turn = page.get_by_test_id("turn").last
    expect(turn).to_have_attribute("data-status", "done", timeout=REPLY_MS)
    return turn
