"""The files of run and sweep folders: one class for each, which writes and reads it.

Every file says which schema it has.  What an earlier version wrote is translated when it is read,
or refused in one sentence; nothing is rewritten.  Records know no package that makes them.
"""

from fedpeft.records.base import Record
from fedpeft.records.catalogue import CatalogueFile, HistoriesFile
from fedpeft.records.checkpoint import Checkpoint
from fedpeft.records.config import ConfigFile
from fedpeft.records.costs import Costs
from fedpeft.records.log import Log, read_log
from fedpeft.records.metrics import Evaluation
from fedpeft.records.result import Baseline, ClientBytes, DatasetFacts, Parts, Result
from fedpeft.records.scores import Scores
from fedpeft.records.sweep import SweepFacts
from fedpeft.records.traffic import TrafficRound
from fedpeft.records.users import Users

__all__ = [
    "Baseline",
    "CatalogueFile",
    "Checkpoint",
    "ClientBytes",
    "ConfigFile",
    "Costs",
    "DatasetFacts",
    "Evaluation",
    "HistoriesFile",
    "Log",
    "Parts",
    "Record",
    "Result",
    "Scores",
    "SweepFacts",
    "TrafficRound",
    "Users",
    "read_log",
]
