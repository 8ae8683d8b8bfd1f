"""How a federated run trains: the settings that every client and the server share."""

from fedpeft.training.config import EncodingName, Phase, TrainingConfig
from fedpeft.training.optimizer import OptimizerConfig, ServerOptimizerConfig

__all__ = ["EncodingName", "OptimizerConfig", "Phase", "ServerOptimizerConfig", "TrainingConfig"]
