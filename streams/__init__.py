"""The public names: a pipeline file imports from here alone."""

from schemas.action import ActionInput
from schemas.context import Context, Item, Related, Summary, Window
from schemas.decision import Verdict
from schemas.event import Event
from schemas.row import State
from schemas.units import (
    Celsius,
    Hectopascals,
    Kilometres,
    MetresPerSecond,
    Millimetres,
    UtcTime,
    word,
)
from streams.pipeline import Dedupe, Pipeline
from streams.signatures import PipelineError

__all__ = [
    "ActionInput",
    "Celsius",
    "Context",
    "Dedupe",
    "Event",
    "Hectopascals",
    "Item",
    "Kilometres",
    "MetresPerSecond",
    "Millimetres",
    "Pipeline",
    "PipelineError",
    "Related",
    "State",
    "Summary",
    "UtcTime",
    "Verdict",
    "Window",
    "word",
]
