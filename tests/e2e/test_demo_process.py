"""The demo's process: small, idle when nobody asks, and whole after a restart."""

import json

from tests.e2e.conftest import Server


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
