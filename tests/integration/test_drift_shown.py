"""Drift as operators and their monitoring see it."""

from app.database import drift
from app.settings import Settings
from intent.certificate import certify
from intent.interface import Certificate, Promise
from tests.fakes import FakeClassifier, prediction
from tests.integration.conftest import Served, serving
from tests.unit.app.test_drift import COUNTED, PROMISE, promote, talk


def test_an_alarm_is_told_by_the_api_and_the_metrics(served: Served) -> None:
    def told() -> dict[str, object]:
        return served.client.get("/admin/drift", headers=served.admin).json()

    def metrics() -> str:
        response = served.client.get("/metrics", headers=served.admin)
        assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
        return response.text

    database = served.services.database
    assert told()["state"] == "too_few"
    number = promote(database, COUNTED.to_json())
    served.client.portal.call(served.services.live.refresh)
    assert 'twofold_drift_alarm{moved="instant"} 0' in metrics()
    talk(database, number, 300, in_scope=0.5)
    database.write_now(lambda c: drift.look(c, PROMISE))
    found = told()
    assert (found["state"], found["model_version"]) == ("drifted", number)
    assert set(found["moved"]) == {"confidence", "instant"}
    assert found["alarm_since"] is not None
    assert len(found["confidence"]["seen"]) == len(found["edges"]) + 1
    assert found["instant"]["seen"][0] < found["instant"]["expected"][0]
    assert not found["usual_traffic"]
    assert 'twofold_drift_alarm{moved="instant"} 1' in metrics()
    assert "twofold_usual_traffic 0" in metrics()
    assert served.client.get("/metrics").status_code == 401
    assert served.client.get("/metrics", headers=served.user).status_code == 403


class Counted(FakeClassifier):
    def certify(self, promise: Promise) -> Certificate:
        return certify(COUNTED, promise)


def test_a_mix_that_leaves_the_certified_range_is_told_and_answers_take_more(
    settings: Settings,
) -> None:
    """Then nothing is certified of it: an answer must satisfy the certificate and the default."""
    hello = prediction(("greet", 0.99), ("goodbye", 0.01), assurance=0.93)
    certified = settings.model_copy(update={"max_wrong_instant_under_pressure": 0.3})
    with serving(certified, load=lambda _: Counted({"hello": hello})) as served:

        def asked() -> dict:
            response = served.client.post("/v1/route", json={"text": "hello"}, headers=served.user)
            return response.json()

        database = served.services.database
        number = promote(database, COUNTED.to_json())
        served.client.portal.call(served.services.live.refresh)
        before = asked()
        assert before["usual_traffic"]
        assert (before["decision"]["route"], before["decision"]["basis"]) == (
            "instant",
            "certified",
        )
        talk(database, number, 300, in_scope=0.5)
        database.write_now(lambda c: drift.look(c, PROMISE))
        served.client.portal.call(served.services.live.refresh)
        after = asked()
        assert not after["usual_traffic"]
        assert after["certificate"]["certified"]  # of the traffic that it was made for
        assert (after["decision"]["route"], after["decision"]["basis"]) == (
            "generate",
            "other_traffic",
        )
        assert after["decision"]["threshold"] == 0.97
