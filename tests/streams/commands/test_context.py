"""`midstream context` on a running pipeline: what a decision looked at."""

import pytest

from tests.support.desk import Desk

pytestmark = pytest.mark.broker


def decision_of(desk: Desk, customer: str) -> str:
    """The decision about a customer's bad week, which waits for a person."""
    reviews = desk.told("review", "list", "--all")
    return str(next(each["decision_id"] for each in reviews if each["key"] == customer))


def test_a_context_is_there_for_programs(desk: Desk) -> None:
    shown = desk.told("context", "show", decision_of(desk, "dawn"))

    facts = {fact["id"]: fact for fact in shown["manifest"]["facts"]}
    assert shown["made_anew"] == "same"
    assert facts["state.plan"]["value"] == "team"
    assert facts["state.plan"]["event_id"] == "dawn-plan"
    assert len([id for id in facts if id.startswith("complaints/")]) == 3
    assert '<fact id="state.plan" age="' in shown["for_model"]


def test_a_context_is_there_for_people_and_for_models(desk: Desk) -> None:
    decision = decision_of(desk, "dawn")
    page = desk.run("context", "show", decision)
    for_model = desk.run("context", "show", decision, "--for-model")

    assert page.returncode == 0, page.stderr
    for piece in ("of customer:dawn at ", "state.plan", "dawn-plan", "said by"):
        assert piece in page.stdout
    assert for_model.stdout.startswith("<context decision=")
    assert for_model.stdout.endswith("</facts>\n")


def test_what_was_never_decided_is_code_1(desk: Desk) -> None:
    run = desk.run("context", "show", "dec_nothing")

    assert (run.returncode, run.stdout) == (1, "")
    assert "dec_nothing: " in run.stderr
    assert "has made no such decision" in run.stderr
