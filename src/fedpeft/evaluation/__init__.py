"""Ranking metrics, the evaluation protocol, the baselines and the leak oracle.

Evaluation sees only scores: whatever can score all items for a user can be evaluated.
"""

from fedpeft.evaluation.als import ALSConfig
from fedpeft.evaluation.baselines import (
    baseline_names,
    baselines,
    choose_als,
    choose_ease,
    ease_scorers,
    ials_scorers,
    left_out_baselines,
    popularity,
)
from fedpeft.evaluation.ease import EASEConfig
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
    "EASEConfig",
    "Holdout",
    "LeakAudit",
    "LeakOracle",
    "ListScorer",
    "Ranks",
    "Report",
    "Scorer",
    "baseline_names",
    "baselines",
    "choose_als",
    "choose_ease",
    "ease_scorers",
    "evaluate",
    "evaluate_sampled",
    "ials_scorers",
    "left_out_baselines",
    "popularity",
    "rank_sampled",
    "rank_users",
    "report_of",
]
