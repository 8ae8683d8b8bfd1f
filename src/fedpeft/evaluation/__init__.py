"""Ranking metrics, the evaluation protocol, the floors and the leak oracle.

Evaluation sees only scores: whatever can score all items for a user can be evaluated.
"""

from fedpeft.evaluation.als import ALSConfig
from fedpeft.evaluation.floors import choose_als, floors, matrix_factorisation, popularity
from fedpeft.evaluation.leak import LeakAudit, LeakOracle
from fedpeft.evaluation.protocol import (
    ListScorer,
    Part,
    Ranks,
    Report,
    Scorer,
    evaluate,
    evaluate_sampled,
    rank_users,
    report_of,
)

__all__ = [
    "ALSConfig",
    "LeakAudit",
    "LeakOracle",
    "ListScorer",
    "Part",
    "Ranks",
    "Report",
    "Scorer",
    "choose_als",
    "evaluate",
    "evaluate_sampled",
    "floors",
    "matrix_factorisation",
    "popularity",
    "rank_users",
    "report_of",
]
