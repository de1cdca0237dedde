"""`midstream state` on a running pipeline: the row that was committed last."""

import pytest

from schemas.times import rfc3339
from tests.support.desk import CUSTOMERS, Desk

pytestmark = pytest.mark.broker


def test_a_row_is_there_for_programs(desk: Desk) -> None:
    row = desk.told("state", "get", "customer", "dawn")

    assert (row["entity"], row["key"]) == ("customer", "dawn")
    assert row["state"]["plan"] == "team"
    assert len(row["related"]["their_tickets"]) == 3
    assert row["cause"][1] == "ticket.opened"


def test_a_row_is_there_for_people(desk: Desk) -> None:
    run = desk.run("state", "get", "customer", "dawn")

    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith("customer:dawn  version ")
    for line in ("  plan: team", "  their_tickets: 3", "plan free → team", "status=open"):
        assert line in run.stdout


def test_a_row_as_it_was(desk: Desk) -> None:
    now = desk.told("state", "get", "customer", "dawn")
    # Her tickets were opened a second apart.
    before = rfc3339(now["as_of_ms"] - 1000)
    then = desk.told("state", "get", "customer", "dawn", "--as-of", before)

    assert [
        (len(row["related"]["their_tickets"]), len(row["windows"]["complaints"])) for row in (then, now)
    ] == [
        (2, 2),
        (3, 3),
    ]
    assert (then["as_of_ms"], then["asked_as_of_ms"]) == (now["as_of_ms"] - 1000,) * 2


def test_before_anything_was_heard_there_is_no_row(desk: Desk) -> None:
    run = desk.run("state", "get", "customer", "dawn", "--as-of", "2020-01-01")

    assert (run.returncode, run.stdout) == (1, "")
    assert "customer:dawn: nothing had been heard of it by 2020-01-01T00:00:00Z" in run.stderr


@pytest.mark.parametrize(
    ("entity", "key", "line"),
    [
        ("customer", "nobody", "customer:nobody: nothing has been heard of it"),
        ("costumer", "dawn", "declares no entity 'costumer': it has ticket, customer"),
    ],
)
def test_what_is_not_there_is_code_1(desk: Desk, entity: str, key: str, line: str) -> None:
    run = desk.run("state", "get", entity, key)

    assert (run.returncode, run.stdout) == (1, "")
    assert line in run.stderr


def test_how_large_rows_are(desk: Desk) -> None:
    told = desk.told("state", "sizes", "--limit", "2")
    page = desk.run("state", "sizes")

    found = {each["entity"]: each for each in told["entities"]}
    tickets, customers = found["ticket"]["rows"], found["customer"]["rows"]
    # Other tests may have opened more.
    assert tickets >= 3 * len(CUSTOMERS)
    assert customers >= len(CUSTOMERS)
    assert len(found["customer"]["largest"]) == 2
    assert sum(count for _, count in found["customer"]["histogram"]) == customers
    assert page.returncode == 0, page.stderr
    assert f"ticket: {tickets} rows, " in page.stdout
    assert "█" in page.stdout
