"""`midstream state` on a running pipeline: the row that was committed last."""

import pytest

from tests.support.desk import Desk

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
