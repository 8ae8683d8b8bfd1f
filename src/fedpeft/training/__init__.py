"""How a federated run trains: the settings that every client and the server share."""

from fedpeft.training.config import EncodingName, Phase, TrainingConfig
from fedpeft.training.optimizer import OptimizerConfig

__all__ = ["EncodingName", "OptimizerConfig", "Phase", "TrainingConfig"]
