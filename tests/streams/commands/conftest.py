"""One running support desk for all tests of the commands: customers with a bad week, and three bad records."""

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from streams.memory import happened
from streams.settings import KafkaSettings, load_settings
from tests.support.desk import CUSTOMERS, OPENED, Desk


@pytest.fixture(scope="package")
def broker(request: pytest.FixtureRequest) -> KafkaSettings:
    """The broker that `KAFKA_BOOTSTRAP` names, else one of our own."""
    named = load_settings()
    if named.bootstrap is not None:
        return named
    own = request.getfixturevalue("kafka")
    assert isinstance(own, KafkaSettings)
    return own


@pytest.fixture(scope="package")
def desk(broker: KafkaSettings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """Topics made and worker started by their commands; everything read, reviews open, three records refused."""
    desk = Desk(broker, tmp_path_factory.mktemp("desk"))
    made = desk.run("topics", "create", "--partitions", "3")
    assert made.returncode == 0, made.stderr
    desk.start()
    try:
        good = [record for customer in CUSTOMERS for record in desk.bad_week(customer)]
        opened = good[1]
        headers = [header for header in opened.headers if header[0] != "ce_id"]
        bad = [
            # Mended by another body; bytes that no terminal may obey; a type that nobody declared.
            opened._replace(key=b"mend", value=b'{"ticket_id": 7}', headers=[*headers, ("ce_id", b"mend-1")]),
            opened._replace(
                key=b"bytes", value=b"\xff\x00\x1b[31m" * 500, headers=[*headers, ("ce_id", b"b-1")]
            ),
            happened(
                desk.models.Closed(ticket_id="T"), datetime.now(UTC) - OPENED, "unknown-1", key="unknown"
            ),
        ]
        bad[2] = bad[2]._replace(
            headers=[(name, b"ticket.lost" if name == "ce_type" else value) for name, value in bad[2].headers]
        )
        # One of them is sent twice.
        desk.send([*good, opened, *bad])
        desk.until(("review", "list"), lambda found: len(found) == len(CUSTOMERS), "the reviews")
        desk.until(("quarantine", "list"), lambda found: found["count"] == len(bad), "three refusals")
        yield desk
    finally:
        desk.stop()


@pytest.fixture
def reviews(desk: Desk) -> dict[str, str]:
    """Customer → the id of its review."""
    return {review["key"]: review["review_id"] for review in desk.told("review", "list", "--all")}
