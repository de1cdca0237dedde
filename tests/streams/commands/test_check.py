"""`midstream check`: what it prints, and every mistake that an author can make: one line that names the function."""

import json
from pathlib import Path

import pytest

from streams.cli import main
from streams.exits import EXIT_MISTAKE

ROOT = Path(__file__).parents[3]
TICKETS = str(ROOT / "examples" / "tickets.py")

SHOP = '''
from datetime import datetime, timedelta
from typing import Literal

from streams import ActionInput, Context, Event, Item, Pipeline, Related, State, Summary, UtcTime, Verdict, Window

shop = Pipeline("shop", version=1)

class Ordered(Event, type="ordered"):
    order_id: str
    buyer: str
    placed_at: UtcTime

class Paid(Event, type="paid"):
    order_id: str

class Order(State):
    buyer: str | None = None
    paid: bool = False

class Buyer(State):
    orders: int = 0

order = shop.entity("order", Order, key="order_id")
buyer = shop.entity("buyer", Buyer, key="buyer", order="arrival")

class Carried(Summary):
    paid: bool

order.link(buyer, "carts", on="buyer", carries=Carried)

@order.on(Ordered)
def ordered(state: Order, event: Ordered) -> Order:
    return state.evolve(buyer=event.buyer)

class Spent(Item):
    order_id: str

@buyer.window(within=timedelta(days=1))
def recent(event: Ordered) -> Spent | None:
    return Spent(order_id=event.order_id)

class Seen(Context):
    orders: int

@buyer.context
def seen(recent: Window[Spent], carts: Related[Carried], at: datetime, key: str) -> Seen:
    return Seen(orders=len(recent))

class Thank(Verdict):
    action: Literal["gift", "none"]

thank = buyer.decision("thank", verdict=Thank, context=seen, on=(Ordered,))

@thank.rule
def third_order(ctx: Seen) -> Thank | None:
    """Three orders in a day are worth a gift."""
    return None

class Gift(ActionInput):
    orders: int

@thank.action("gift", stakes="high")
def gift(ctx: Seen, verdict: Thank) -> Gift:
    return Gift(orders=ctx.orders)

thank.human(deadline=timedelta(hours=1))
'''

# Name → what is replaced by what, and what the line must name: the place, what came or was expected, the cure.
MISTAKES: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "pipeline name": ('Pipeline("shop"', 'Pipeline("Shop!"', ("Pipeline", "'Shop!'", "Rename")),
    "earliest without zone": (
        "version=1)",
        "version=1, earliest=datetime(2020, 1, 1))",
        ("Pipeline", "earliest= with a zone", "tzinfo=UTC"),
    ),
    "misspelt order": ('order="arrival"', 'order="arival"', ("entity 'buyer'", "'arival'", "latest")),
    "misspelt stakes": ('stakes="high"', 'stakes="High"', ("gift (line", "'High'", "low, medium, high")),
    "misspelt on_timeout": (
        "deadline=timedelta(hours=1))",
        'deadline=timedelta(hours=1), on_timeout="refuse")',
        ("decision 'thank'", "'refuse'", "reject, approve"),
    ),
    "entity name taken": ('shop.entity("buyer"', 'shop.entity("order"', ("Pipeline.entity", "'order'")),
    "entity called lane": ('shop.entity("buyer"', 'shop.entity("lane"', ("Pipeline.entity", "'lane'")),
    "state without default": ("paid: bool = False", "paid: bool", ("'order'", "Order.paid", "default")),
    "state of another kind": ("class Buyer(State)", "class Buyer(Event)", ("'buyer'", "State subclass")),
    "unknown key field": ('key="order_id"', 'key="number"', ("ordered (line", "Ordered", "'number'", "key=")),
    "no key for an event": (
        'key="order_id"',
        'key={Paid: "order_id"}',
        ("ordered (line", "no key for Ordered"),
    ),
    "key that is no text": (
        "    order_id: str\n    buyer: str\n",
        "    order_id: int\n    buyer: str\n",
        ("ordered (line", "a str in Ordered.order_id"),
    ),
    "event without type": (
        'class Ordered(Event, type="ordered")',
        "class Ordered(Event)",
        ("ordered (line", "Event subclass with a type"),
    ),
    "naive time": ("placed_at: UtcTime", "placed_at: datetime", ("ordered (line", "placed_at", "UtcTime")),
    "reducer annotation": (
        "def ordered(state: Order, event: Ordered) -> Order",
        "def ordered(state: Order, event: Paid) -> Order",
        ("ordered (line", "(Order, Ordered) -> Order", "Mend"),
    ),
    "reducer without annotation": (
        "def ordered(state: Order, event: Ordered) -> Order",
        "def ordered(state, event: Ordered) -> Order",
        ("ordered (line", "'state'", "Annotate"),
    ),
    "annotation that names nothing": (
        "def ordered(state: Order, event: Ordered) -> Order",
        'def ordered(state: "Ordre", event: Ordered) -> Order',
        ("ordered (line", "Ordre", "Import or define"),
    ),
    "second reducer": (
        "class Spent(Item)",
        "@order.on(Ordered)\ndef again(state: Order, event: Ordered) -> Order:\n    return state\n\nclass Spent(Item)",
        ("again (line", "one reducer for ordered", "Join"),
    ),
    "window annotation": (
        "def recent(event: Ordered) -> Spent | None",
        "def recent(event: Ordered) -> int",
        ("recent (line", "Item or None", "int"),
    ),
    "link on an unknown field": ('on="buyer"', 'on="customer"', ("link 'carts'", "'customer'", "Order")),
    "link carries an unknown field": (
        "class Carried(Summary):\n    paid: bool",
        "class Carried(Summary):\n    total: int",
        ("link 'carts'", "Carried.total", "no such field"),
    ),
    "link carries another type": (
        "class Carried(Summary):\n    paid: bool",
        "class Carried(Summary):\n    paid: str",
        ("link 'carts'", "Carried.paid", "str"),
    ),
    "link named twice": (
        "class Spent(Item)",
        'order.link(buyer, "carts", on="buyer", carries=Carried)\n\nclass Spent(Item)',
        ("link 'carts'", "a second one"),
    ),
    "link cycle": (
        "class Spent(Item)",
        (
            "class Back(Summary):\n    orders: int\n\nbuyer.state.model_fields\n"
            'buyer.link(order, "back", on="orders", carries=Back)\n\nclass Spent(Item)'
        ),
        ("without a cycle", "order", "buyer", "→"),
    ),
    "context parameter": (
        "at: datetime, key: str) -> Seen",
        "total: int) -> Seen",
        ("seen (line", "'total'", "recent: Window[Spent]", "carts: Related[Carried]"),
    ),
    "context result": (
        "at: datetime, key: str) -> Seen",
        "at: datetime, key: str) -> int",
        ("seen (line", "Context subclass", "int"),
    ),
    "decision with a foreign context": (
        "thank = buyer.decision(",
        "thank = order.decision(",
        ("decision 'thank'", "a context of 'order'", "@order.context"),
    ),
    "decision without trigger": (", on=(Ordered,))", ")", ("decision 'thank'", "either on= or every=")),
    "decision with two triggers": (
        ", on=(Ordered,))",
        ", on=(Ordered,), every=timedelta(hours=1))",
        ("decision 'thank'", "either on= or every="),
    ),
    "decision named twice": (
        "class Gift(ActionInput)",
        'buyer.decision("thank", verdict=Thank, context=seen, on=(Ordered,))\n\nclass Gift(ActionInput)',
        ("decision 'thank'", "a new name"),
    ),
    "rule annotation": (
        "def third_order(ctx: Seen) -> Thank | None",
        "def third_order(ctx: Order) -> Thank | None",
        ("third_order (line", "(Seen) -> Thank or None", "Mend"),
    ),
    "rule without docstring": (
        '    """Three orders in a day are worth a gift."""\n',
        "",
        ("third_order (line", "docstring", "why"),
    ),
    "unreachable route": (
        "class Gift(ActionInput)",
        (
            "@thank.rule\ndef always(ctx: Seen) -> Thank:\n"
            '    """Always."""\n    return Thank(action="none", reason="x")\n\n'
            "@thank.rule\ndef never(ctx: Seen) -> Thank | None:\n"
            '    """Never asked."""\n    return None\n\nclass Gift(ActionInput)'
        ),
        ("never (line", "reached", "always"),
    ),
    "no route": (
        "@thank.rule\ndef third_order",
        "def third_order",
        ("decision 'thank'", "at least one route", "@thank.rule"),
    ),
    "verdict without actions": (
        'action: Literal["gift", "none"]',
        'action: Literal["none"]',
        ("gift (line", "an action of Thank", "'gift'"),
    ),
    "action annotation": (
        "def gift(ctx: Seen, verdict: Thank) -> Gift",
        "def gift(ctx: Seen) -> Gift",
        ("gift (line", "(Seen, Thank)", "ActionInput"),
    ),
    "action without handler": (
        'Literal["gift", "none"]',
        'Literal["gift", "card", "none"]',
        ("decision 'thank'", "handler for action 'card'", "@thank.action('card'"),
    ),
    "handler for an unknown action": (
        '@thank.action("gift"',
        '@thank.action("present"',
        ("gift (line", "'present'", "gift"),
    ),
    "high stakes without a person": (
        "thank.human(deadline=timedelta(hours=1))",
        "",
        ("decision 'thank'", "a person for 'gift'", "thank.human"),
    ),
    "a person without high stakes": (
        'stakes="high"',
        'stakes="low"',
        ("decision 'thank'", "reachable person"),
    ),
    "settle beyond the grace": (
        ", on=(Ordered,))",
        ", on=(Ordered,), settle=timedelta(hours=2))",
        ("decision 'thank'", "within the grace of 'buyer'", "grace="),
    ),
    "event in a periodic context": (
        "at: datetime, key: str) -> Seen:\n    return Seen(orders=len(recent))",
        "event: Ordered) -> Seen:\n    return Seen(orders=len(recent))",
        ("seen (line", "no event parameter", "every="),
    ),
    "two models for one type in one entity": (
        "class Spent(Item)",
        (
            'class Other(Event, type="ordered"):\n    order_id: str\n    buyer: str\n\n'
            "@buyer.on(Other)\ndef other(state: Buyer, event: Other) -> Buyer:\n    return state\n\nclass Spent(Item)"
        ),
        ("recent (line", "one model for type 'ordered'", "Other and Ordered", "Share"),
    ),
    "two models for one type in two entities": (
        "class Spent(Item)",
        (
            'class Other(Event, type="paid"):\n    order_id: str\n    buyer: str\n\n'
            "@buyer.on(Other)\ndef other(state: Buyer, event: Other) -> Buyer:\n    return state\n\n"
            "@order.on(Paid)\ndef paid(state: Order, event: Paid) -> Order:\n    return state\n\nclass Spent(Item)"
        ),
        ("event type 'paid'", "one model", "Paid and Other", "Share"),
    ),
    "no entity": (
        SHOP,
        'from streams import Pipeline\nshop = Pipeline("shop", version=1)\n',
        ("'shop'", "entity"),
    ),
    "no pipeline": (SHOP, "x = 1\n", ("one streams.Pipeline", "got 0")),
    "two pipelines": ("class Ordered", 'more = Pipeline("more", version=1)\nclass Ordered', ("got 2",)),
    "file that raises": ("class Ordered", "1 / 0\nclass Ordered", ("shop.py: ZeroDivisionError", "(line 9)")),
    "file that is no Python": ("class Ordered", "class class Ordered", ("SyntaxError", "line")),
    "missing import": (
        "class Ordered",
        "import no_such_module\nclass Ordered",
        ("shop.py: ModuleNotFoundError", "no_such_module", "(line 9)"),
    ),
}


def checked(path: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    code = main(["check", str(path)])
    told = capsys.readouterr()
    return code, told.out, told.err


def test_the_pipeline_of_these_tests_is_right(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "shop.py"
    file.write_text(SHOP)

    code, out, err = checked(file, capsys)

    assert (code, err) == (0, "")
    assert "third_order" in out
    assert "Three orders in a day are worth a gift." in out


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_line_that_names_the_place(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, after, words = MISTAKES[name]
    assert before in SHOP
    source = SHOP.replace(before, after, 1)
    if name == "event in a periodic context":
        source = source.replace(", on=(Ordered,))", ", every=timedelta(hours=1))")
    file = tmp_path / "shop.py"
    file.write_text(source)

    code, out, err = checked(file, capsys)

    assert (code, out) == (EXIT_MISTAKE, "")
    assert err.startswith("midstream: ")
    assert err.count("\n") == 1, err
    assert "\x1b" not in err
    for word in words:
        assert word in err


def test_no_file(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = checked(Path("nowhere.py"), capsys)

    assert (code, out) == (EXIT_MISTAKE, "")
    assert "nowhere.py: no such file" in err


def test_it_prints_everything_that_is_declared(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = checked(Path(TICKETS), capsys)

    assert (code, err) == (0, "")
    for line in (
        "tickets version 1: every check passed",
        "ticket.opened → ticket by ticket_id, copy to customer by customer_id",
        "customer (Customer): order latest, rank 2, current for 30 d",
        "window complaints: the last 7 d of ticket.opened, at most 100",
        "link their_tickets: tells customer by customer_id: status, severity; at most 50",
        "goodwill of customer: on ticket.opened, 5 min later; sees customer_id, plan, complaints, unanswered",
        "→ credit (high stakes, within 7 d): customer_id, amount_usd",
        "high stakes wait for a person, 2 d at most; then the proposal is rejected",
        "tickets.reviews: questions to people, open and closed; key: review id; written by entity",
    ):
        assert line in out


def test_json_is_all_of_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", TICKETS, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)

    assert told["pipeline"] == "tickets"
    assert [decision["decision"] for decision in told["decisions"]] == ["triage", "first_reply", "goodwill"]
    assert told["decisions"][2]["review"] == {"deadline_ms": 2 * 86_400_000, "on_timeout": "reject"}


WORKFLOW = """
from typing import Literal
from streams import Event, Pipeline, State, Transition

desk = Pipeline("desk", version=1)

class Moved(Event, type="moved"):
    ticket: str
    to: Literal["new", "open", "closed"]

class Ticket(State):
    status: Literal["new", "open", "closed"] = "new"

ticket = desk.entity("ticket", Ticket, key="ticket", order="arrival")

@ticket.on(Moved)
def moved(state: Ticket, event: Moved) -> Ticket:
    return state.evolve(status=event.to)

def is_new(state: Ticket, event: Moved) -> bool:
    return state.status == "new"

ticket.workflow(
    "status", [Transition("new", "open", on=[Moved], guard=is_new), Transition("open", "closed")]
)
"""


def test_a_workflow_is_told_and_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "desk.py"
    file.write_text(WORKFLOW)

    assert main(["check", str(file)]) == 0
    told = capsys.readouterr().out
    for line in (
        "    status begins as new\n",
        "      new → open by moved if is_new\n",
        "      open → closed\n",
    ):
        assert line in told

    assert main(["check", str(file), "--mermaid"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "```mermaid",
        "stateDiagram-v2",
        "    [*] --> new",
        "    new --> open: moved [is_new]",
        "    open --> closed",
        "    closed --> [*]",
        "```",
    ]
