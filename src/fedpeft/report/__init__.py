"""Run folders turned into tables, plots and one-file HTML reports; reads files only.

`fedpeft.report.plots` and `fedpeft.report.html` load the plotting library, so import them where
they are needed.
"""

from fedpeft.report.compare import Comparison, Row, comparison
from fedpeft.report.runs import Run, read_run

__all__ = [
    "Comparison",
    "Row",
    "Run",
    "comparison",
    "read_run",
]
