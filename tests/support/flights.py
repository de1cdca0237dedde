"""The flights under a name of their own, and what they found, as the oracle says it."""

import copy
from collections import Counter
from collections.abc import Iterable
from zoneinfo import ZoneInfo

from examples.flights import flights
from examples.flights_oracle import REVIEW, Oracle
from schemas.action import ActionRecord
from schemas.review import ReviewRecord
from schemas.times import from_ms, rfc3339
from streams.pipeline import Pipeline

NEW_YORK = ZoneInfo("America/New_York")

# Rule, New York day, airport, instant, what it acts on.
Finding = tuple[str, str, str, str, str]


def named(name: str) -> Pipeline:
    """The pipeline of examples/flights.py under another name."""
    other = copy.copy(flights)
    other.name = name
    return other


def day_of(at_ms: int) -> str:
    """The day in New York."""
    return from_ms(at_ms).astimezone(NEW_YORK).date().isoformat()


def of_action(action: ActionRecord) -> Finding:
    """An action as a finding."""
    given, at = action.input, rfc3339(action.at_ms)
    if action.action == "rebook":
        # A flight is dated by its scheduled day, which its id begins with.
        return action.action, given["flight_id"][:10], given["origin"], at, given["flight_id"]
    subject = given["airport"] if action.action == "ground_delay" else given["flight_id"]
    return action.action, day_of(action.at_ms), given["airport"], at, subject


def of_review(review: ReviewRecord) -> Finding:
    """A review as a finding."""
    seen = review.context
    return REVIEW, day_of(review.at_ms), seen["next_origin"], rfc3339(review.at_ms), seen["next_flight_id"]


def found(actions: Iterable[ActionRecord], reviews: Iterable[ReviewRecord]) -> Counter[Finding]:
    """All that the pipeline found. A review counts once, whatever became of it."""
    return Counter(map(of_action, actions)) + Counter(map(of_review, reviews))


def expected(oracle: Oracle) -> Counter[Finding]:
    """All that there is to find, per day and airport."""
    return Counter((one.rule, one.day, one.airport, one.as_of, one.subject) for one in oracle.findings)
