"""`midstream explain` on a running pipeline: every link of the chain leads to the whole of it."""

import pytest

from tests.support.desk import Desk

pytestmark = pytest.mark.broker


def test_an_event_leads_to_what_it_changed_and_what_was_decided(desk: Desk) -> None:
    run = desk.run("explain", "coil-opened-2")

    assert run.returncode == 0, run.stderr
    for part in (
        "event      coil-opened-2  ticket.opened at ",
        "from /test: raw ",
        "read by ticket:coil-2 at events ",
        "read by customer:coil (a copy) at events ",
        'state      ticket:coil-2 version 1: customer_id null → "coil"',
        "decision   dec_",
        "triage of ticket:coil-2",
        "route      1. rule urgent_wakes_somebody@",
        "verdict    page_on_call: coil-2 is urgent: it is down",
        "gate       proceed: page_on_call has low stakes: allowed without a person",
        "action     act_",
        "goodwill of customer:coil",
        'context    customer_id="coil", plan="team", complaints=3, unanswered=3',
        "gate       review: credit has high stakes: a person decides",
        "review     rev_",
        "audit      #",
        # Two hours after the ticket was opened it will be looked at once more.
        "no record  first_reply",
    ):
        assert part in run.stdout, f"{part!r} not in\n{run.stdout}"


def test_every_link_of_a_chain_leads_to_the_same_decisions(desk: Desk, reviews: dict[str, str]) -> None:
    from_review = desk.told("explain", reviews["coil"])
    proposal = from_review["decisions"][0]
    triage = desk.told("explain", "coil-opened-2")["decisions"]
    page = next(decision for decision in triage if decision["decision"] == "triage")

    assert desk.told("explain", proposal["decision_id"])["decisions"] == from_review["decisions"]
    assert from_review["events"][0]["id"] == "coil-opened-2"
    assert from_review["states"][proposal["decision_id"]] == {"plan": "team", "renews_at": None}
    assert from_review["audit"][0]["what"] == "held"
    by_action = desk.told("explain", page["action_id"])
    assert by_action["decisions"] == [page]
    assert by_action["actions"][0]["input"] == {"ticket_id": "coil-2", "subject": "it is down"}


def test_a_question_and_its_answer_are_one_chain(desk: Desk, reviews: dict[str, str]) -> None:
    desk.told("review", "reject", reviews["dawn"], "--by", "bob")

    told = desk.told("explain", reviews["dawn"])

    proposal, answer = told["decisions"]
    assert (proposal["route"], proposal["gate"]) == ("rule", "review")
    assert (answer["route"], answer["gate"]) == ("person", "none")
    assert [event["type"] for event in told["events"]] == ["ticket.opened", "midstream.review.answered"]
    assert [entry["what"] for entry in told["audit"]] == ["held", "answered", "decided"]
    assert told["reviews"][0]["status"] == "rejected"
    assert desk.told("explain", answer["decision_id"])["decisions"] == told["decisions"]


def test_an_event_sent_twice_is_told_so(desk: Desk) -> None:
    run = desk.run("explain", "acme-opened-0")

    assert "and 1 more times: duplicates" in run.stdout


def test_a_refused_record_is_explained_by_its_id_and_by_its_event(desk: Desk) -> None:
    listed = desk.told("quarantine", "list", "--limit", "0")["records"]
    id = next(record["id"] for record in listed if record["key"] == "unknown")

    for name in (id, "unknown-1"):
        run = desk.run("explain", name)
        assert run.returncode == 0, run.stderr
        assert "refused    unknown_type type: 'ticket.lost' is not a type of this pipeline" in run.stdout


def test_an_unknown_id_is_code_1(desk: Desk) -> None:
    run = desk.run("explain", "dec_nothing")

    assert (run.returncode, run.stdout) == (1, "")
    assert run.stderr == (
        f"midstream: dec_nothing: no event, decision, action, review or quarantine record of {desk.name}"
        " has this id\n"
    )
