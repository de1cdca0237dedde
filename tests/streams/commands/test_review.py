"""`midstream review` on a running pipeline: what is open is listed, an answer becomes a decision, once."""

import signal
import subprocess

import pytest

from tests.support.desk import CUSTOMERS, Desk

pytestmark = pytest.mark.broker


def test_the_open_ones_are_listed_by_deadline(desk: Desk) -> None:
    listed = desk.told("review", "list", "--all")
    run = desk.run("review", "list", "--all")

    assert {review["key"] for review in listed} == set(CUSTOMERS)
    opened = [review["deadline_ms"] for review in listed if review["status"] == "open"]
    assert opened == sorted(opened)
    assert run.stdout.splitlines()[0].split() == [
        *("id", "status", "deadline", "decision", "entity", "proposal", "reason"),
    ]
    assert "3 tickets in a week, 3 unanswered" in run.stdout
    assert f"of {len(CUSTOMERS)}" in run.stderr


def test_show_has_the_facts(desk: Desk, reviews: dict[str, str]) -> None:
    run = desk.run("review", "show", reviews["coil"])

    assert run.returncode == 0, run.stderr
    for line in ("customer_id: coil", "plan: team", "complaints: 3", "unanswered: 3", "proposal  credit"):
        assert line in run.stdout


def test_an_unknown_review_is_code_1(desk: Desk) -> None:
    for verb in (["show"], ["approve", "--by", "ann"]):
        run = desk.run("review", verb[0], "rev_none", *verb[1:])

        assert (run.returncode, run.stdout) == (1, "")
        assert "rev_none: no such review" in run.stderr


def test_approve_leads_to_the_action_and_only_once(desk: Desk, reviews: dict[str, str]) -> None:
    done = desk.told("review", "approve", reviews["acme"], "--by", "ann", "--note", "they waited long")

    assert done["review"]["status"] == "approved"
    assert (done["review"]["by"], done["review"]["note"]) == ("ann", "they waited long")
    assert done["review"]["answer_decision_id"] == done["decision"]["decision_id"]
    assert done["decision"]["gate"] == "proceed"
    assert done["decision"]["action_id"].startswith("act_")
    again = desk.run("review", "approve", reviews["acme"], "--by", "ann")
    assert (again.returncode, again.stdout) == (1, "")
    assert "is not open: approved by ann (they waited long)" in again.stderr
    other = desk.run("review", "reject", reviews["acme"], "--by", "bob")
    assert other.returncode == 1


def test_reject_does_nothing_but_say_so(desk: Desk, reviews: dict[str, str]) -> None:
    run = desk.run("review", "reject", reviews["bolt"], "--by", "bob", "--note", "no")

    assert run.returncode == 0, run.stderr
    assert f"{reviews['bolt']} rejected by bob" in run.stdout
    assert "action   none" in run.stdout


def test_nobody_can_sign_with_an_empty_name(desk: Desk, reviews: dict[str, str]) -> None:
    run = desk.run("review", "approve", reviews["coil"], "--by", " ")

    assert run.returncode == 1
    assert "--by NAME" in run.stderr


def test_without_a_worker_it_says_so_and_the_answer_counts_later(desk: Desk, reviews: dict[str, str]) -> None:
    assert desk.stop() == 0
    try:
        waited = desk.run("review", "approve", reviews["coil"], "--by", "cat", "--timeout", "1")
        # The same command again is the same event: it is not sent twice.
        again = desk.run("review", "approve", reviews["coil"], "--by", "cat", "--no-wait")
        waiting = subprocess.Popen(
            desk.command("review", "approve", reviews["coil"], "--by", "cat"),
            cwd=desk.folder,
            env=desk.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert waiting.stderr is not None
        assert waiting.stderr.readline() == "waiting for a worker …\n".encode()
        waiting.send_signal(signal.SIGINT)
        out, err = waiting.communicate(timeout=20)
    finally:
        desk.start()

    assert waited.returncode == 69
    assert "no worker has read it within 1 s" in waited.stderr
    assert again.returncode == 0
    assert "sent ans_" in again.stdout
    assert (waiting.returncode, out, err) == (130, b"", b"midstream: interrupted\n")
    closed = desk.until(
        ("review", "show", reviews["coil"]), lambda review: review["status"] != "open", "the answer"
    )
    assert (closed["status"], closed["by"]) == ("approved", "cat")
    refused = desk.told("quarantine", "list", "--reason", "review_not_open")
    assert refused["count"] == 0
