"""How a federated run trains: the settings that every client and the server share."""

from fedpeft.training.config import EncodingName, OptimizerConfig, Phase, TrainingConfig

__all__ = ["EncodingName", "OptimizerConfig", "Phase", "TrainingConfig"]
