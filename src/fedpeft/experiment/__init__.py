"""One run from configuration to run folder."""

from fedpeft.experiment.assemble import Prepared, build, prepare
from fedpeft.experiment.config import Choice, EvaluationConfig, RunConfig, resolve
from fedpeft.experiment.folder import RunFolder
from fedpeft.experiment.recommend import Recommendation, evaluate_run, recommend, reopen
from fedpeft.experiment.run import Schedule, Watcher, resume, start
from fedpeft.experiment.settings import configure

__all__ = [
    "Choice",
    "EvaluationConfig",
    "Prepared",
    "Recommendation",
    "RunConfig",
    "RunFolder",
    "Schedule",
    "Watcher",
    "build",
    "configure",
    "evaluate_run",
    "prepare",
    "recommend",
    "reopen",
    "resolve",
    "resume",
    "start",
]
