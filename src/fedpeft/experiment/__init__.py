"""One run from configuration to run folder."""

from fedpeft.experiment.assemble import Prepared, build, prepare
from fedpeft.experiment.config import Choice, EvaluationConfig, RunConfig
from fedpeft.experiment.folder import RunFolder
from fedpeft.experiment.recommend import Recommendation, Recommender
from fedpeft.experiment.reopen import evaluate_run, reopen
from fedpeft.experiment.resolution import Settled, resolve, settle
from fedpeft.experiment.run import Schedule, Watcher, resume, start
from fedpeft.experiment.settings import configure, over_textless

__all__ = [
    "Choice",
    "EvaluationConfig",
    "Prepared",
    "Recommendation",
    "Recommender",
    "RunConfig",
    "RunFolder",
    "Schedule",
    "Settled",
    "Watcher",
    "build",
    "configure",
    "evaluate_run",
    "over_textless",
    "prepare",
    "reopen",
    "resolve",
    "resume",
    "settle",
    "start",
]
