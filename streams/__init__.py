"""The public names: a pipeline file imports from here alone.

Each is loaded when it is first asked for. So the command line starts without any of them: quickly, and able to say so
when a foreign package stands in the place of one of ours.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from schemas.action import ActionInput
    from schemas.context import Context, Related, Summary
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
    from schemas.window import Item, Pane, Window
    from streams.pipeline import Dedupe, Pipeline
    from streams.signatures import PipelineError
    from streams.workflows import Transition
else:
    _HOMES = {
        "schemas.action": ("ActionInput",),
        "schemas.context": ("Context", "Related", "Summary"),
        "schemas.decision": ("Verdict",),
        "schemas.event": ("Event",),
        "schemas.row": ("State",),
        "schemas.units": (
            *("Celsius", "Hectopascals", "Kilometres", "MetresPerSecond", "Millimetres"),
            *("UtcTime", "word"),
        ),
        "schemas.window": ("Item", "Pane", "Window"),
        "streams.pipeline": ("Dedupe", "Pipeline"),
        "streams.signatures": ("PipelineError",),
        "streams.workflows": ("Transition",),
    }

    def __getattr__(name):
        """Load a public name."""
        from importlib import import_module

        for home, names in _HOMES.items():
            if name in names:
                globals()[name] = found = getattr(import_module(home), name)
                return found
        raise AttributeError(f"module 'streams' has no attribute {name!r}")


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
    "Pane",
    "Pipeline",
    "PipelineError",
    "Related",
    "State",
    "Summary",
    "Transition",
    "UtcTime",
    "Verdict",
    "Window",
    "word",
]
