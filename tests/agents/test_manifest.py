"""agents/manifest.py: what a context was made of, and what it was not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st

from agents.context import build
from agents.manifest import Fact, LeftOut, Manifest, manifest, rendered
from schemas.event import Envelope
from schemas.row import State
from schemas.times import to_ms
from streams.memory import happened, passed, run
from streams.plan import compile_plan
from tests.support.shop import Cancelled, Paid, Placed, shop

START = datetime(2024, 5, 1, 9, tzinfo=UTC)
PLAN = compile_plan(shop())
LOSS = PLAN.entities["order"].decision("refund").context
STANDING = PLAN.entities["customer"].decision("watch").context


def at(minute: float) -> datetime:
    return START + timedelta(minutes=minute)


def placed(order: str, amount: int, minute: float) -> tuple[Placed, datetime, str]:
    return Placed(order_id=order, customer_id="ann", amount=amount), at(minute), f"placed-{order}-{minute:g}"


def paid(order: str, amount: int, minute: float) -> tuple[Paid, datetime, str]:
    return Paid(order_id=order, customer_id="ann", amount=amount), at(minute), f"paid-{order}-{minute:g}"


def facts(of: Manifest) -> dict[str, tuple[object, str | None, str]]:
    return {fact.id: (fact.value, fact.event_id, fact.age) for fact in of.facts}


def test_a_field_has_the_event_that_set_it_last_and_its_age() -> None:
    memory = run(shop(), [happened(*placed("o1", 70, 0)), happened(*paid("o1", 70, 90))])
    body = Cancelled(order_id="o1").model_dump_json().encode()
    trigger = Envelope("gone", "order.cancelled", "/test", to_ms(at(240)), "order:o1", body)

    found = manifest(LOSS, "o1", memory.row("order", "o1"), to_ms(at(240)), trigger)

    assert facts(found) == {
        "state.status": ("paid", "paid-o1-90", "2 h ago"),
        # The payment said it, too.
        "state.customer_id": ("ann", "paid-o1-90", "2 h ago"),
        "state.amount": (70, "placed-o1-0", "4 h ago"),
        "event.order_id": ("o1", "gone", "now"),
        "event.fault": ("", "gone", "now"),
        "key": ("o1", None, ""),
    }
    assert found.left_out == ()


def test_what_nobody_said_is_left_out() -> None:
    memory = run(shop(), [happened(*paid("o1", 5, 0))])

    found = manifest(LOSS, "o1", memory.row("order", "o1"), to_ms(at(1)), None)

    assert found.left_out == (LeftOut("state.amount", "never_said", 1),)


def test_relations_and_windows_are_as_of_the_instant() -> None:
    memory = run(
        shop(),
        [
            *(happened(*each) for each in (placed("o1", 70, 0), paid("o1", 70, 1), placed("o2", 5, 2))),
            *(happened(*each) for each in (paid("o2", 5, 50), placed("o3", 9, 80), paid("o1", 1, 90))),
            passed(at(90)),
        ],
    )

    found = manifest(STANDING, "ann", memory.row("customer", "ann"), to_ms(at(65)), None)

    assert facts(found) | {"state.spent": ()} == {
        "state.spent": (),
        "orders/o1.status": ("paid", "paid-o1-1", "64 min ago"),
        "orders/o1.amount": (70, "placed-o1-0", "65 min ago"),
        "orders/o2.status": ("paid", "paid-o2-50", "15 min ago"),
        "orders/o2.amount": (5, "placed-o2-2", "63 min ago"),
        "payments/0": ({"amount": 5, "fault": ""}, "paid-o2-50", "15 min ago"),
        "key": ("ann", None, ""),
    }
    # o3 was placed later (two fields), and o1 was paid for again later.
    assert set(found.left_out) == {
        LeftOut("orders", "not_yet_known", 1),
        LeftOut("orders", "later", 3),
        LeftOut("payments", "too_old", 1),
        LeftOut("payments", "later", 1),
    }


def test_what_a_bound_threw_away_is_counted() -> None:
    row = run(shop(), [happened(*paid("o1", 5, 0))]).row("customer", "ann")

    found = manifest(STANDING, "ann", row.with_(evicted={"payments": 3, "seen": 9}), to_ms(at(1)), None)

    assert [each for each in found.left_out if each.why == "thrown_away"] == [
        LeftOut("payments", "thrown_away", 3)
    ]


def test_who_said_it_is_unknown_once_the_history_has_forgotten() -> None:
    memory = run(shop(), [happened(*paid(f"o{n}", 5, n)) for n in range(2)])
    row = memory.row("customer", "ann")

    found = manifest(STANDING, "ann", row.with_(changes=type(row.changes)()), to_ms(at(9)), None)

    assert found.facts[0] == Fact("state.spent", 10, None, None, "")


@given(
    st.lists(st.tuples(st.sampled_from(["o1", "o2", "o3"]), st.integers(0, 200)), max_size=12),
    st.integers(0, 200),
)
def test_the_facts_are_those_of_the_context(payments: list[tuple[str, int]], minute: int) -> None:
    records = [happened(*paid(order, 10, when)) for order, when in dict.fromkeys(payments)]
    row = run(shop(), records).row("customer", "ann")
    at_ms = to_ms(at(minute))
    trigger = Paid(order_id="o1", customer_id="ann", amount=1)

    context = build(STANDING, "ann", row, at_ms, trigger).model_dump()
    found = manifest(STANDING, "ann", row, at_ms, None)

    inside = [fact for fact in found.facts if fact.id.startswith("payments/")]
    assert context["recent"] == 10 * len(inside)
    known = {
        fact.id.partition("/")[2].partition(".")[0] for fact in found.facts if fact.id.startswith("orders/")
    }
    assert set(context["orders"]) == known
    assert len({fact.id for fact in found.facts}) == len(found.facts)
    assert all(fact.time_ms is None or fact.time_ms <= at_ms for fact in inside)


@given(st.text(st.characters(exclude_categories=["Cc", "Cs"], exclude_characters="\ufffe\uffff")))
def test_what_the_world_says_cannot_leave_its_fact(said: str) -> None:
    told = Manifest(
        0, (Fact(f"state.{said}", said, None, None, ""), Fact("key", {"n": said}, None, 0, "now")), ()
    )

    root = ElementTree.fromstring(f"<all>{rendered(told, said, said, said)}</all>")

    assert [child.tag for child in root] == ["context", "facts"]
    context, listed = root
    assert (context.get("about"), (context.text or "").strip("\n")) == (said, said.strip("\n"))
    assert (listed[0].get("id"), listed[0].text or "") == (f"state.{said}", said)


def test_a_model_reads_context_and_facts() -> None:
    told = Manifest(0, (Fact("state.amount", 70, "e1", 0, "2 h ago"),), ())

    assert rendered(told, "refund", "order:o1", '{"amount":70}').splitlines() == [
        '<context decision="refund" about="order:o1">',
        '{"amount":70}',
        "</context>",
        "<facts>",
        '<fact id="state.amount" age="2 h ago">70</fact>',
        "</facts>",
    ]


def test_every_state_has_its_facts() -> None:
    class Empty(State):
        pass

    row = run(shop(), []).row("order", "o1")
    assert manifest(LOSS, "o1", row.with_(state=Empty()), 0, None).left_out == ()
