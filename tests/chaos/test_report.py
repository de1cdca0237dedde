"""The campaign without a broker: what a seed decides, and what the report says."""

from __future__ import annotations

from pathlib import Path

from tests.chaos.brokers import java_hash
from tests.chaos.campaign import Campaign, in_words
from tests.chaos.checker import Findings
from tests.chaos.episode import Outcome
from tests.chaos.faults import FAULTS


def first(seed: int, number: int) -> list[str]:
    schedule = Campaign(seed, 1, Path()).schedule()
    return [next(schedule) for _ in range(number)]


def test_a_seed_decides_the_schedule_and_every_fault_has_its_turn() -> None:
    assert first(1, 100) == first(1, 100)
    assert first(1, 100) != first(2, 100)
    assert set(first(1, 100)) == set(FAULTS)


def test_the_report_adds_up() -> None:
    campaign = Campaign(7, 1, Path())
    broken = Findings(50, duplicates=2, losses=1, violations=["1. keys twice: a", "1. keys missing: b"])
    campaign.outcomes = [
        Outcome("storm", 0, strikes=2, kills=0, findings=Findings(records_checked=100)),
        Outcome("frozen", 1, strikes=1, kills=3, findings=broken),
    ]

    report = campaign.report()

    names = ("faults_injected", "kills", "records_checked", "duplicates", "losses", "violations")
    assert [report[name] for name in names] == [3, 3, 150, 2, 1, 2]
    assert [each["episode"] for each in report["broken"]] == [1]
    assert set(report["not_played"]) == FAULTS.keys() - {"storm", "frozen"}
    assert "Duplicates: 2. Losses: 1. Violations: 2." in in_words(report)


def test_many_cases_of_one_kind_are_one_violation() -> None:
    findings = Findings()

    assert findings.add(1, "action keys missing", []) == 0
    assert findings.add(1, "action keys missing", [f"k{number}" for number in range(7)]) == 7

    assert findings.violations == ["1. action keys missing: k0, k1, k2, k3, k4 and 2 more"]


def test_the_hash_that_spreads_groups_is_javas() -> None:
    # The last one's is the least number there is, of which Kafka makes 0.
    assert [java_hash(text) for text in ("", "a", "ab", "polygenelubricants")] == [0, 97, 3105, 0]
