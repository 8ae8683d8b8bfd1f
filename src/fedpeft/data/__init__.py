"""Data: reading, cleaning, splitting, and negatives for training and evaluation."""

from fedpeft.data.config import ColumnsConfig, DataConfig, SplitConfig, SyntheticConfig
from fedpeft.data.dataset import Catalogue, Dataset, Histories, Ints, Split
from fedpeft.data.describe import describe
from fedpeft.data.download import SOURCES, get
from fedpeft.data.load import load
from fedpeft.data.negatives import TrainNegatives
from fedpeft.data.readers import RawTables, Reader, readers
from fedpeft.data.splits import split
from fedpeft.data.statistics import DataStatistics
from fedpeft.data.tables import from_tables

__all__ = [
    "SOURCES",
    "Catalogue",
    "ColumnsConfig",
    "DataConfig",
    "DataStatistics",
    "Dataset",
    "Histories",
    "Ints",
    "RawTables",
    "Reader",
    "Split",
    "SplitConfig",
    "SyntheticConfig",
    "TrainNegatives",
    "describe",
    "from_tables",
    "get",
    "load",
    "readers",
    "split",
]
