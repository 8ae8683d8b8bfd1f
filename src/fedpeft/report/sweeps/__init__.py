"""Sweeps turned into statistics over seeds, one page and small records; reads files only.

`fedpeft.report.sweeps.page` loads the plotting library, so import it where it is needed.
"""

from fedpeft.report.statistics import Interval, Spread
from fedpeft.report.sweeps.cells import CellResult, Facet, facets
from fedpeft.report.sweeps.read import Sweep, is_sweep, read_sweep
from fedpeft.report.sweeps.records import is_records, read_records, write_records

__all__ = [
    "CellResult",
    "Facet",
    "Interval",
    "Spread",
    "Sweep",
    "facets",
    "is_records",
    "is_sweep",
    "read_records",
    "read_sweep",
    "write_records",
]
