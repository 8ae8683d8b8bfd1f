"""Ranking metrics, the evaluation protocol, the baselines and the leak oracle.

Evaluation sees only scores: whatever can score all items for a user can be evaluated.
"""

from fedpeft.evaluation.als import ALSConfig
from fedpeft.evaluation.baselines import baselines, choose_als, matrix_factorisation, popularity
from fedpeft.evaluation.leak import LeakAudit, LeakOracle
from fedpeft.evaluation.protocol import (
    Holdout,
    ListScorer,
    Ranks,
    Report,
    Scorer,
    evaluate,
    evaluate_sampled,
    rank_sampled,
    rank_users,
    report_of,
)

__all__ = [
    "ALSConfig",
    "Holdout",
    "LeakAudit",
    "LeakOracle",
    "ListScorer",
    "Ranks",
    "Report",
    "Scorer",
    "baselines",
    "choose_als",
    "evaluate",
    "evaluate_sampled",
    "matrix_factorisation",
    "popularity",
    "rank_sampled",
    "rank_users",
    "report_of",
]
