"""Drift as operators and their monitoring see it."""

from app.database import drift
from tests.integration.conftest import Served
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
