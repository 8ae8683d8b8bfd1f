"""Settings of the server-side pretraining of items."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, ValidationInfo, field_validator

from fedpeft.config import ActsIf, ConfigModel, parse
from fedpeft.items.encoders import encoders


class TrainingConfig(ConfigModel):
    """How a network over item vectors is trained: Adam, learning rate falling to 0 as a cosine."""

    epochs: int = Field(default=20, ge=1)
    """Passes over the items."""
    batch_size: int = Field(default=256, ge=1)
    """Items per optimiser step."""
    learning_rate: float = Field(default=1e-3, gt=0)
    """Adam's initial step size."""
    weight_decay: float = Field(default=0.0, ge=0)
    """L2 penalty on all weights; at 1e-2 the latents shrink to nothing, which is refused."""
    max_steps: int = Field(default=10_000, ge=1)
    """Most optimiser steps, whatever the epochs say; bounds the time on big catalogues."""


class RQVAEConfig(TrainingConfig):
    """How the RQ-VAE is trained; levels and codes per level belong to the adapter."""

    commitment: float = Field(default=0.25, ge=0)
    """Weight of the loss that pulls an item's latent towards its codes."""
    estimator: Literal["straight_through", "rotation"] = "straight_through"
    """How the gradient passes the quantiser: unchanged, or turned by the rotation trick.

    Unchanged was better on both real catalogues it was tried on: less variance unexplained, more
    codes in use."""


class BaseCodesConfig(ConfigModel):
    """The base as sums of codewords: l codebooks of d rows, and l codes for each item.

    What a client downloads once is then l log2(d) bits an item and the codebooks, about a thirtieth
    of float32 rows where items are many."""

    levels: int = Field(default=4, ge=1, le=16)
    """l, codewords summed per item."""
    codes: int = Field(default=256, ge=2, le=65536)
    """d, rows of each codebook."""


TEXTLESS = ("random", "none")
"""Bases that no text is read for."""


class ItemsConfig(ConfigModel):
    """How item texts become input vectors, a base embedding and semantic codes."""

    acting: ClassVar = {
        **dict.fromkeys(
            ("encoder", "options"),
            ActsIf("a base that is made of texts", lambda table: table.base not in TEXTLESS),
        ),
        "scale": ActsIf("a base other than 'none'", lambda table: table.base != "none"),
        "autoencoder": ActsIf("base = 'autoencoder'", lambda table: table.base == "autoencoder"),
    }

    encoder: str = "tfidf"
    """Item encoder: tfidf, sentence_transformers, array, or one that another package registers."""
    options: dict[str, Any] = Field(default_factory=dict, validate_default=True)
    """Options of that encoder; checked against its own configuration class and completed."""
    base: Literal["autoencoder", "svd", "random", "none"] = "autoencoder"
    """What makes the base embedding; random: nothing, it is drawn; none: zeros.  With these two no
    text is read."""
    dim: int = Field(default=32, ge=1)
    """k, the columns of the base embedding."""
    hidden: tuple[Annotated[int, Field(ge=1)], ...] = (512, 256, 128)
    """Hidden layers between the input vectors and the latents, mirrored in the decoder."""
    scale: float = Field(default=0.1, gt=0)
    """Standard deviation of the entries of the base embedding."""
    base_codes: BaseCodesConfig | None = None
    """Send the base as codes and codebooks, found by residual k-means over its rows, and use what
    they stand for as the base; none: send rows.  Only without a warm-up, which sends the table."""
    autoencoder: TrainingConfig = TrainingConfig()
    """Training of the autoencoder."""
    rqvae: RQVAEConfig = RQVAEConfig()
    """Training of the RQ-VAE."""
    seed: int = Field(default=0, ge=0)
    """Seed of the networks, of the order of their batches, and of a random base."""

    @field_validator("encoder")
    @classmethod
    def _known_encoder(cls, name: str) -> str:
        return encoders.get(name).name

    @field_validator("options")
    @classmethod
    def _checked_options(cls, options: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        if "encoder" not in info.data:  # refused already
            return options
        return parse(encoders.get(info.data["encoder"]).config, options).model_dump(
            mode="json", exclude_none=True
        )
