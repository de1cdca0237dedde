"""A plan in words: complete, and JSON all through."""

import json
from pathlib import Path

import pytest
from pydantic_core import to_json

from streams.describe import described, type_name
from streams.plan import Plan, compile_plan, load

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(params=["tickets.py", "flights.py"])
def plan(request: pytest.FixtureRequest) -> Plan:
    return compile_plan(load(EXAMPLES / str(request.param)))


def test_everything_that_is_declared_is_described(plan: Plan) -> None:
    told = json.loads(to_json(described(plan)))

    assert (told["pipeline"], told["version"]) == (plan.name, plan.version)
    assert {event["type"] for event in told["events"]} == set(plan.types)
    assert [entity["entity"] for entity in told["entities"]] == list(plan.entities)
    decisions = [decision.rules.name for entity in plan.entities.values() for decision in entity.decisions]
    assert [decision["decision"] for decision in told["decisions"]] == decisions


def test_every_route_says_why_it_may_decide(plan: Plan) -> None:
    for decision in described(plan)["decisions"]:
        assert all(route["why"] and route["version"] for route in decision["routes"])


def test_copies_windows_and_links_are_named() -> None:
    told = described(compile_plan(load(EXAMPLES / "tickets.py")))
    opened = told["events"][0]
    ticket, customer = told["entities"]

    assert (opened["owner"], opened["copies"]) == ("ticket", {"customer": "customer_id"})
    assert ticket["links"][0] == {
        "link": "their_tickets",
        "to": "customer",
        "on": "customer_id",
        "carries": ["status", "severity"],
        "limit": 50,
    }
    assert customer["windows"][0]["of"] == ["ticket.opened"]


@pytest.mark.parametrize(("annotation", "name"), [(int, "int"), (int | None, "int | None")])
def test_types_are_named_as_they_are_written(annotation: object, name: str) -> None:
    assert type_name(annotation) == name
