"""Which trained network answers: promote, roll back, and refuse what is damaged."""

import hashlib

from sqlalchemy import select, update

from app.database import model_versions
from app.database.database import Database
from app.database.tables import model_versions as versions_table
from intent.certificate import Calibration, certify
from intent.interface import ArtifactError, Promise
from tests.fakes import FakeClassifier, prediction
from tests.integration.conftest import PREDICTIONS, Served, serving
from tests.integration.routes import assert_problem

COUNTED = Calibration(
    basis="held_out",
    thresholds=(0.9, 0.5),
    expected=((0.8, 0.001, 0.01), (0.9, 0.01, 0.1)),
    floors=(("greet", 0.95),),
    inside=1_000,
    outside=100,
    answered=(800, 900),
    wrong=(0, 10),
    let_through=(0, 10),
    all_wrong=20,
    intents=4,
    in_scope=(950, 20),
)


def test_promoting_and_rolling_back_decide_which_version_answers(served: Served) -> None:
    second = _add_version(served, b"another network")
    conversation = served.conversation()
    assert _answering(served, conversation) == 1
    assert _promote(served, second).json() == {"live": second, "epoch": 2}
    assert _answering(served, conversation) == second
    assert _rollback(served).json() == {"live": 1, "epoch": 3}
    assert _answering(served, conversation) == 1
    listed = _get(served, "/admin/model-versions")
    assert (listed["live"], listed["epoch"]) == (1, 3)
    assert [(one["number"], one["live"]) for one in listed["items"]] == [(second, False), (1, True)]
    shown = _get(served, f"/admin/model-versions/{second}")
    assert shown["sha256"] == hashlib.sha256(b"another network").hexdigest()
    assert (shown["size_bytes"], shown["intents"]) == (len(b"another network"), 4)
    history = [
        one["model_version"]
        for one in served.client.get(
            f"/v1/conversations/{conversation}/turns", headers=served.user
        ).json()["items"]
    ]
    assert history == [1, second, 1]


def test_promoting_the_live_version_again_changes_nothing(served: Served) -> None:
    assert _promote(served, 1).json() == {"live": 1, "epoch": 1}
    assert _get(served, "/admin/model-versions")["epoch"] == 1


def test_nothing_is_rolled_back_where_nothing_was_before(served: Served) -> None:
    _add_version(served, b"never promoted")
    assert assert_problem(_rollback(served), 409)["code"] == "nothing_to_roll_back_to"


def test_of_two_operators_with_the_same_picture_one_is_told_to_look_again(served: Served) -> None:
    second, third = _add_version(served, b"two"), _add_version(served, b"three")
    epoch = _get(served, "/admin/model-versions")["epoch"]
    assert _promote(served, second, expected_epoch=epoch).status_code == 200
    late = _promote(served, third, expected_epoch=epoch)
    assert assert_problem(late, 409)["code"] == "epoch_changed"
    assert assert_problem(_rollback(served, expected_epoch=epoch), 409)["code"] == "epoch_changed"
    assert _get(served, "/admin/model-versions")["live"] == second
    assert _promote(served, third, expected_epoch=epoch + 1).json()["live"] == third


def test_an_unknown_version_is_not_promoted(served: Served) -> None:
    assert_problem(_promote(served, 99), 404)
    assert _get(served, "/admin/model-versions")["live"] == 1


def test_a_damaged_artefact_is_refused_and_the_old_version_answers_on(served: Served) -> None:
    second = _add_version(served, b"another network")
    _damage(served, second)
    refused = _promote(served, second)
    assert assert_problem(refused, 409)["code"] == "damaged_artifact"
    listed = _get(served, "/admin/model-versions")
    assert (listed["live"], listed["epoch"]) == (1, 1)
    assert _answering(served, served.conversation()) == 1
    assert served.client.get("/readyz").json()["model_version"] == 1


def test_a_server_starts_and_answers_though_its_live_artefact_is_damaged(settings) -> None:
    with serving(settings) as served:
        _damage(served, 1)
    with serving(settings, teach=False) as served:
        assert served.client.get("/readyz").json() == {"ready": True, "model_version": None}
        turn = served.say(served.conversation(), "hello").json()
        assert (turn["decision"]["route"], turn["status"]) == ("generate", "done")


def test_a_version_that_cannot_be_loaded_leaves_the_old_one_answering(settings) -> None:
    def load(artifact: bytes) -> FakeClassifier:
        if artifact == b"of another release":
            raise ArtifactError("not one of ours")
        return FakeClassifier(PREDICTIONS)

    with serving(settings, load=load) as served:
        second = _add_version(served, b"of another release")
        assert assert_problem(_promote(served, second), 409)["code"] == "damaged_artifact"
        assert _get(served, "/admin/model-versions")["live"] == 1
        # A server of that release, on the same database, may promote it all the same.
        served.services.database.write_now(
            lambda c: model_versions.promote(c, second, by="another release")
        )
        served.client.portal.call(served.services.live.refresh)
        assert _answering(served, served.conversation()) == 1
        assert served.client.get("/v1/assistant", headers=served.user).json()["model_version"] == 1
        third = _add_version(served, b"a good one")
        assert _promote(served, third).status_code == 200
        assert _answering(served, served.conversation()) == third


def test_what_another_process_promotes_and_writes_is_seen_without_a_restart(
    served: Served, settings
) -> None:
    second = _add_version(served, b"another network")
    another = Database(settings.url)
    try:
        another.write_now(lambda c: model_versions.promote(c, second, by="cli"))
    finally:
        another.close()
    conversation = served.conversation()
    while _answering(served, conversation) != second:
        pass  # its follower looks every second; the test's time limit ends a wait in vain


def _add_version(served: Served, artifact: bytes, calibration: dict | None = None) -> int:
    return served.services.database.write_now(
        lambda c: model_versions.add(
            c,
            artifact,
            data_hash="1" * 64,
            intents=4,
            examples=9,
            evaluation={"accuracy": 0.95},
            calibration=calibration,
            training_job_id=None,
        )
    )


def _damage(served: Served, number: int) -> None:
    """Flips a bit of the stored artefact, as a bad disk does."""

    def flip(connection) -> None:
        mine = versions_table.c.number == number
        stored = connection.scalar(select(versions_table.c.artifact).where(mine))
        damaged = bytes([stored[0] ^ 1]) + stored[1:]
        connection.execute(update(versions_table).where(mine).values(artifact=damaged))

    served.services.database.write_now(flip)


def _promote(served: Served, number: int, **body: object):
    return _post(served, f"/admin/model-versions/{number}/promote", **body)


def _rollback(served: Served, **body: object):
    return _post(served, "/admin/model-versions/rollback", **body)


def _answering(served: Served, conversation: str) -> int:
    return served.say(conversation, "hello").json()["model_version"]


def _post(served: Served, url: str, **body: object):
    return served.client.post(url, json=body, headers=served.admin)


def _get(served: Served, url: str) -> dict:
    got = served.client.get(url, headers=served.admin)
    assert got.status_code == 200, got.text
    return got.json()


def test_a_version_shows_what_its_instant_answers_are_worth(served: Served) -> None:
    number = _add_version(served, b"counted", calibration=COUNTED.to_json())
    certificate = _get(served, f"/admin/model-versions/{number}")["certificate"]
    assert certificate["certified"]
    assert certificate["promise"] == {
        "max_wrong_instant": 0.05,
        "confidence": 0.9,
        "least_in_scope": 0.9,
    }
    assert certificate["point"]["threshold"] == 0.5
    assert [one["threshold"] for one in certificate["points"]] == [0.9, 0.5]
    assert (certificate["inside"], certificate["outside"]) == (1_000, 100)
    assert len(certificate["curve"]) == 2
    assert certificate["floors"] == {"greet": 0.95}


def test_versions_without_counts_or_with_damaged_ones_are_uncertified(served: Served) -> None:
    damaged = _add_version(served, b"damaged", calibration=COUNTED.to_json() | {"inside": 3})
    for number in (1, damaged):
        certificate = _get(served, f"/admin/model-versions/{number}")["certificate"]
        assert (certificate["certified"], certificate["doubt"]) == (False, "nothing_unseen")
    assert len(_get(served, "/admin/model-versions")["items"]) == 2


def test_the_settings_say_what_is_promised(settings) -> None:
    strict = settings.model_copy(update={"max_wrong_instant": 0.001})
    with serving(strict) as served:
        number = _add_version(served, b"counted", calibration=COUNTED.to_json())
        certificate = _get(served, f"/admin/model-versions/{number}")["certificate"]
        assert certificate["promise"]["max_wrong_instant"] == 0.001
        assert not certificate["certified"]
        assert certificate["doubt"] in ("too_few", "too_many_wrong")


def test_a_certified_version_answers_by_its_certificate(settings) -> None:
    """The same code decides for a turn and for a question about it."""
    predictions = {
        "hello": prediction(("greet", 0.99), ("goodbye", 0.01), assurance=0.9),
        "bye": prediction(("goodbye", 0.7), ("greet", 0.1), assurance=0.6),
        "farewell": prediction(("goodbye", 0.99), ("greet", 0.01), assurance=0.4),
    }
    certificate = certify(COUNTED, Promise())
    with serving(settings, load=lambda _: FakeClassifier(predictions, certificate)) as served:
        for text, route, threshold in (
            ("hello", "generate", 0.95),  # the intent's own floor
            ("bye", "instant", 0.5),
            ("farewell", "generate", 0.5),
        ):
            asked = served.client.post("/v1/route", json={"text": text}, headers=served.user)
            decision = asked.json()["decision"]
            assert decision == served.say(served.conversation(), text).json()["decision"]
            assert (decision["route"], decision["threshold"]) == (route, threshold)
            assert (decision["basis"], decision["assurance"]) == (
                "certified",
                predictions[text].assurance,
            )
            assert asked.json()["certificate"]["point"]["threshold"] == 0.5


def test_an_uncertified_version_answers_by_the_safe_default_and_says_so(settings) -> None:
    predictions = PREDICTIONS | {
        "hullo": prediction(("greet", 0.95), ("goodbye", 0.05), assurance=0.9)
    }
    with serving(settings, predictions=predictions) as served:

        def asked(text: str) -> dict:
            response = served.client.post("/v1/route", json={"text": text}, headers=served.user)
            return response.json()

        for text, route in (("hello", "instant"), ("hullo", "generate")):
            decision = asked(text)["decision"]
            assert (decision["basis"], decision["threshold"]) == ("uncertified", 0.97)
            assert (decision["assurance"], decision["route"]) == (
                predictions[text].assurance,
                route,
            )
        unsure = asked("no more order")["decision"]
        assert (unsure["basis"], unsure["threshold"], unsure["assurance"]) == (
            "uncertified",
            0.9,
            unsure["confidence"],
        )
        assert asked("hello")["certificate"]["doubt"] == "nothing_unseen"


def test_a_fixed_threshold_replaces_the_promise(settings) -> None:
    fixed = settings.model_copy(update={"instant_threshold": 0.99})
    with serving(fixed) as served:
        decision = served.say(served.conversation(), "hello").json()["decision"]
        assert (decision["basis"], decision["threshold"]) == ("fixed", 0.99)
        assert decision["route"] == "generate"
