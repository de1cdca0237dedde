"""schemas/units.py: quantities and words as they come; canonical numbers and words as they go on."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from schemas.units import Celsius, Hectopascals, Kilometres, MetresPerSecond, Millimetres, UtcTime, word

STRICT = ConfigDict(strict=True, allow_inf_nan=False)


class Observed(BaseModel):
    model_config = STRICT

    temperature: Celsius = 0.0
    wind: MetresPerSecond = 0.0
    sight: Kilometres = 0.0
    rain: Millimetres = 0.0
    pressure: Hectopascals = 0.0
    at: UtcTime | None = None
    sky: Annotated[Literal["clear", "overcast"], word({"ovc": "overcast", "klar": "clear"})] = "clear"


def read(field: str, given: Any) -> Any:
    return getattr(Observed.model_validate_json(json.dumps({field: given})), field)


def refused(field: str, given: Any) -> str:
    with pytest.raises(ValidationError) as raised:
        read(field, given)
    return raised.value.errors()[0]["type"]


@pytest.mark.parametrize(
    ("field", "value", "unit", "canonical"),
    [
        ("temperature", 21.5, "degC", 21.5),
        ("temperature", 212.0, "degF", 100.0),
        ("temperature", -40, "degF", -40.0),
        ("temperature", 273.15, "K", 0.0),
        ("wind", 10.0, "m/s", 10.0),
        ("wind", 36.0, "km/h", 10.0),
        ("wind", 100.0, "mph", 44.704),
        ("wind", 1.0, "kn", 0.514444),
        ("sight", 10.0, "km", 10.0),
        ("sight", 1500, "m", 1.5),
        ("sight", 10.0, "mi", 16.09344),
        ("sight", 10.0, "nmi", 18.52),
        ("rain", 3.0, "mm", 3.0),
        ("rain", 1.5, "cm", 15.0),
        ("rain", 2.0, "in", 50.8),
        ("pressure", 1013.25, "hPa", 1013.25),
        ("pressure", 1013.25, "mbar", 1013.25),
        ("pressure", 101325, "Pa", 1013.25),
    ],
)
def test_a_quantity_is_turned_to_the_canonical_unit(
    field: str, value: float, unit: str, canonical: float
) -> None:
    assert read(field, {"value": value, "unit": unit}) == pytest.approx(canonical, rel=1e-6, abs=1e-9)


def test_a_bare_number_is_in_the_canonical_unit_already() -> None:
    assert read("temperature", -3.5) == -3.5


def test_what_has_been_normalised_stays_as_it_is() -> None:
    """The entity lane validates again what ingest wrote."""
    once = Observed(at=TypeAdapter(UtcTime).validate_json('"2013-02-08T12:00:00-05:00"'), sky="clear")
    assert Observed.model_validate_json(once.model_dump_json()) == once


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        ({"value": 1, "unit": "furlong"}, "unknown_unit"),
        ({"value": 1, "unit": "{value}"}, "unknown_unit"),
        ({"value": 1, "unit": ["degC"]}, "unknown_unit"),
        ({"value": 1}, "unknown_unit"),
        ({}, "unknown_unit"),
        ({"value": "1", "unit": "degC"}, "wrong_quantity"),
        ({"value": True, "unit": "degC"}, "wrong_quantity"),
        ({"value": None, "unit": "degC"}, "wrong_quantity"),
        ({"unit": "degC"}, "wrong_quantity"),
        ({"value": float("nan"), "unit": "degF"}, "finite_number"),
        ({"value": float("inf"), "unit": "degC"}, "finite_number"),
        ({"value": 10**400, "unit": "degC"}, "quantity_out_of_range"),
        ("21.5", "float_type"),
        ([21.5], "float_type"),
        (float("nan"), "finite_number"),
    ],
)
def test_what_is_no_quantity_is_refused(given: Any, kind: str) -> None:
    assert refused("temperature", given) == kind


def test_an_unknown_unit_is_told_the_known_ones() -> None:
    with pytest.raises(ValidationError, match="unit 'furlong' is not one of km, m, mi, nmi"):
        read("sight", {"value": 1, "unit": "furlong"})


@pytest.mark.parametrize("given", ["overcast", " OVC ", "Overcast", "ovc"])
def test_a_word_is_trimmed_and_translated(given: str) -> None:
    assert read("sky", given) == "overcast"


def test_an_alias_of_another_word_is_that_word() -> None:
    assert read("sky", "KLAR") == "clear"


@pytest.mark.parametrize("given", ["cloudy", "", 7, None])
def test_a_word_that_is_none_of_the_choices_is_refused(given: Any) -> None:
    assert refused("sky", given) == "literal_error"


def test_an_instant_is_turned_to_utc() -> None:
    assert read("at", "2013-02-08T14:00:00+02:00").isoformat() == "2013-02-08T12:00:00+00:00"


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        ("2013-02-08T14:00:00", "timezone_aware"),
        ("9999-12-31T23:59:59-05:00", "time_out_of_range"),
        ("0001-01-01T00:00:00+05:00", "time_out_of_range"),
        ("soon", "datetime_parsing"),
        (1360324800, "datetime_type"),
    ],
)
def test_what_is_no_instant_in_utc_is_refused(given: str, kind: str) -> None:
    assert refused("at", given) == kind


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["value", "unit", "x"]), inner | st.just("degF"), max_size=3)
    ),
    max_leaves=5,
)


@settings(deadline=None)
@given(st.sampled_from(["temperature", "sky", "at"]), JSON)
def test_whatever_comes_it_is_read_or_refused(field: str, given: Any) -> None:
    """Any other exception would stop a lane; and what was read once, is read again as it is."""
    try:
        once = Observed.model_validate({field: given})
    except ValidationError:
        return
    assert Observed.model_validate_json(once.model_dump_json()) == once
