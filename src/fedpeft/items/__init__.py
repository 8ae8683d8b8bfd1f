"""Items: text to input vectors, to a base embedding and to semantic codes; no user data."""

from fedpeft.items.cache import default_cache
from fedpeft.items.config import BaseCodesConfig, ItemsConfig, RQVAEConfig, TrainingConfig
from fedpeft.items.encoders import Encoder, encoders
from fedpeft.items.model import ItemModel
from fedpeft.items.networks import Progress
from fedpeft.items.pretrain import Items, pretrain, semantic_ids
from fedpeft.items.quantise import describe_codes, residual_kmeans
from fedpeft.items.rqvae import SemanticIDs
from fedpeft.items.state import State

__all__ = [
    "BaseCodesConfig",
    "Encoder",
    "ItemModel",
    "Items",
    "ItemsConfig",
    "Progress",
    "RQVAEConfig",
    "SemanticIDs",
    "State",
    "TrainingConfig",
    "default_cache",
    "describe_codes",
    "encoders",
    "pretrain",
    "residual_kmeans",
    "semantic_ids",
]
