"""Quantities and words in, canonical numbers and words out: field types that normalise at the door.

    class Observed(Event, type="weather.observed"):
        temperature_c: Celsius
        wind_m_s: MetresPerSecond

A quantity may arrive as a bare number, which is then in the canonical unit, or as
`{"value": 39.0, "unit": "degF"}`. Factors: NIST SP 811 (2008), appendix B.8; all are exact by definition.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import AfterValidator, AwareDatetime, BeforeValidator
from pydantic_core import PydanticCustomError

# unit → (factor, offset): canonical = (value + offset) * factor
Scale = Mapping[str, tuple[float, float]]

TEMPERATURE: Scale = {"degC": (1.0, 0.0), "degF": (5 / 9, -32.0), "K": (1.0, -273.15)}
SPEED: Scale = {"m/s": (1.0, 0.0), "km/h": (1 / 3.6, 0.0), "mph": (0.44704, 0.0), "kn": (1852 / 3600, 0.0)}
DISTANCE: Scale = {"km": (1.0, 0.0), "m": (0.001, 0.0), "mi": (1.609344, 0.0), "nmi": (1.852, 0.0)}
DEPTH: Scale = {"mm": (1.0, 0.0), "cm": (10.0, 0.0), "in": (25.4, 0.0)}
PRESSURE: Scale = {"hPa": (1.0, 0.0), "mbar": (1.0, 0.0), "Pa": (0.01, 0.0)}


def utc(moment: datetime) -> datetime:
    """The same instant, written in UTC."""
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        # Year 1 or 9999 with an offset. Pydantic passes an OverflowError on, and it would stop the lane.
        raise PydanticCustomError("time_out_of_range", "lies outside the years 1 to 9999 in UTC") from None


def quantity(scale: Scale) -> Callable[[Any], Any]:
    """A validator that turns `{"value": number, "unit": name}` into a number in the scale's first unit.

    Anything else is passed on, for the field's own type to accept or refuse.
    """
    known = ", ".join(scale)

    def normalise(given: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        value, unit = given.get("value"), given.get("unit")
        if not isinstance(unit, str) or unit not in scale:
            raise PydanticCustomError("unknown_unit", f"unit {unit!r} is not one of {known}")
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise PydanticCustomError("wrong_quantity", f"expected a number in 'value', got {value!r}")
        factor, offset = scale[unit]
        try:
            return (value + offset) * factor
        except OverflowError:
            raise PydanticCustomError("quantity_out_of_range", "'value' is too large for a float") from None

    return normalise


def word(*aliases: Mapping[str, str]) -> BeforeValidator:
    """Normalise a word before an enum or Literal checks it: trimmed, lower case, `aliases` replaced."""
    table = {alias: canonical for mapping in aliases for alias, canonical in mapping.items()}

    def normalise(given: Any) -> Any:
        if not isinstance(given, str):
            return given
        plain = given.strip().lower()
        return table.get(plain, plain)

    return BeforeValidator(normalise)


Celsius = Annotated[float, BeforeValidator(quantity(TEMPERATURE))]
MetresPerSecond = Annotated[float, BeforeValidator(quantity(SPEED))]
Kilometres = Annotated[float, BeforeValidator(quantity(DISTANCE))]
Millimetres = Annotated[float, BeforeValidator(quantity(DEPTH))]
Hectopascals = Annotated[float, BeforeValidator(quantity(PRESSURE))]
# An instant: a time without a zone is refused, any other is turned to UTC.
UtcTime = Annotated[AwareDatetime, AfterValidator(utc)]
