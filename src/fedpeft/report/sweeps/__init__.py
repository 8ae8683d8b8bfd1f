"""Sweep folders turned into statistics over seeds, one page and a small summary; reads files only.

`fedpeft.report.sweeps.page` loads the plotting library, so import it where it is needed.
"""

from fedpeft.report.sweeps.cells import CellResult, Facet, facets
from fedpeft.report.sweeps.read import Sweep, is_sweep, read_sweep
from fedpeft.report.sweeps.statistics import Interval, Spread, paired_interval, spread_of
from fedpeft.report.sweeps.summary import summary

__all__ = [
    "CellResult",
    "Facet",
    "Interval",
    "Spread",
    "Sweep",
    "facets",
    "is_sweep",
    "paired_interval",
    "read_sweep",
    "spread_of",
    "summary",
]
