"""What a lane does with its rows after a batch."""

from tables.entity import ChangedRow, Rows


def drain(rows: Rows) -> list[ChangedRow]:
    """The changed rows, which then are taken for stored."""
    changed = rows.changed()
    rows.settle()
    return changed
