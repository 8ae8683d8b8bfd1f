"""Ranking metrics, the evaluation protocol, the floors and the leak oracle.

Evaluation sees only scores: whatever can score all items for a user can be evaluated.
"""

from fedpeft.evaluation.als import ALSConfig
from fedpeft.evaluation.floors import choose_als, floors, matrix_factorisation, popularity
from fedpeft.evaluation.leak import LeakAudit, LeakOracle
from fedpeft.evaluation.protocol import Part, Ranks, Report, Scorer, evaluate, rank_users

__all__ = [
    "ALSConfig",
    "LeakAudit",
    "LeakOracle",
    "Part",
    "Ranks",
    "Report",
    "Scorer",
    "choose_als",
    "evaluate",
    "floors",
    "matrix_factorisation",
    "popularity",
    "rank_users",
]
