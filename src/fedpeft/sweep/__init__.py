"""Many runs from one grid file: expanded, run in parallel, gathered in one table."""

from fedpeft.sweep.cell import Cell
from fedpeft.sweep.grid import Grid, read_grid
from fedpeft.sweep.run import Summary, sweep
from fedpeft.sweep.select import select

__all__ = ["Cell", "Grid", "Summary", "read_grid", "select", "sweep"]
