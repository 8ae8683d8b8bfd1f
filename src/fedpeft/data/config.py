"""Settings of the data: where it comes from, how it is cleaned, how it is split."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from fedpeft.config import ActsIf, ConfigModel


class ColumnsConfig(ConfigModel):
    """Column names of a table of the user's own; the MovieLens and Amazon readers know theirs."""

    user: str = Field("user_id", min_length=1)
    """User column of the interactions."""

    item: str = Field("item_id", min_length=1)
    """Item column, in the interactions and in the items file."""

    timestamp: str | None = "timestamp"
    """Number (or Parquet date) by which a user's interactions are ordered; "" or None: the file is
    in time order already."""

    position: str | None = None
    """Number by which `data.order = "file"` orders a user's interactions, where the rows are no
    longer in the order of the file that they come from; None: by row."""

    rating: str | None = None
    """Rating column of the interactions; needed for `min_rating` only."""

    title: str = Field("title", min_length=1)
    """Title column of the items file."""

    text: tuple[str, ...] = ()
    """Columns of the items file that make the text; empty: every text column but the id (every
    column but the id of a CSV file, which does not know types)."""


class SyntheticConfig(ConfigModel):
    """Settings of the built-in generator (see `fedpeft.data.synthetic`)."""

    users: int = Field(default=1000, ge=1)
    """Number of users."""

    items: int = Field(default=700, ge=10)
    """Number of items."""

    interactions_per_user: float = Field(default=40.0, ge=3.0)
    """Mean length of a history; single lengths are spread log-normally around it."""

    topics: int = Field(default=16, ge=1, le=136)
    """Number of topics; an item's topic shows in its text."""

    popularity_skew: float = Field(default=0.8, ge=0.0, le=2.0)
    """Zipf exponent: the popularity of the r-th item is proportional to r^-skew."""

    text_share: float = Field(default=0.5, ge=0.0, le=1.0)
    """Share of the variance of an item's hidden factors that its topic explains; the rest can only
    be learnt from behaviour."""

    drift: float = Field(default=0.3, ge=0.0, le=1.0)
    """How far a user's taste moves from its first to its last interaction (1 = to a new one)."""

    session: float = Field(default=8.0, ge=1.0)
    """Mean interactions of a session, in which a user mostly stays with one of its topics; 1: no
    sessions."""

    seed: int = Field(default=0, ge=0)
    """Seed of everything that is drawn."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.topics > self.items:
            raise ValueError(f"topics = {self.topics} must not exceed items = {self.items}")
        if self.interactions_per_user > self.items / 3:
            raise ValueError(
                f"interactions_per_user = {self.interactions_per_user:g} must be at most a third "
                f"of items = {self.items}, so that negatives are left"
            )
        return self


class DataConfig(ConfigModel):
    """What is read and how it is cleaned."""

    acting: ClassVar = {
        **dict.fromkeys(
            (
                "reader",
                "order",
                "min_interactions",
                "min_rating",
                "items",
                "empty_text",
                "unknown_items",
                "interactions",
                "items_file",
                "columns",
            ),
            ActsIf("a folder as source", lambda table: table.source != "synthetic"),
        ),
        "columns.timestamp": ActsIf("order = 'time'", lambda table: table.order == "time"),
        "columns.position": ActsIf("order = 'file'", lambda table: table.order == "file"),
        "columns.rating": ActsIf("min_rating", lambda table: table.min_rating is not None),
        "synthetic": ActsIf("source = 'synthetic'", lambda table: table.source == "synthetic"),
    }

    source: str = Field("synthetic", min_length=1)
    """The word "synthetic", or the folder of a data set."""

    reader: str = "auto"
    """Registered name of a reader; "auto" finds the one whose files are present."""

    order: Literal["time", "file"] = "time"
    """Order of a user's interactions: by time (ties by file order), or by row of the interactions
    file (or by `columns.position`), which reproduces the paper but puts arbitrary items into the
    test part."""

    min_interactions: int = Field(default=3, ge=3)
    """Users with fewer distinct items are dropped; train, validation and test need one each."""

    min_rating: float | None = None
    """Interactions with a lower rating are dropped; None keeps all."""

    items: Literal["interacted", "all"] = "interacted"
    """Catalogue: items with an interaction left after cleaning, or all of the items file."""

    empty_text: Literal["error", "keep"] = "error"
    """What to do with an item of the catalogue that has no text."""

    unknown_items: Literal["auto", "error", "drop"] = "auto"
    """What to do with an interaction whose item is not in the items file; "auto" leaves it to the
    reader (error, except Amazon, whose metadata has gaps: drop)."""

    interactions: str | None = None
    """File of the interactions inside `source`, for the table reader; None: ``interactions.*``."""

    items_file: str | None = None
    """File of the items inside `source`, for the table reader; None: ``items.*``."""

    columns: ColumnsConfig = ColumnsConfig()
    """Column names, for the table reader."""

    synthetic: SyntheticConfig = SyntheticConfig()
    """Settings of the generator, for `source` "synthetic"."""


class SplitConfig(ConfigModel):
    """How histories are split and which candidates users are evaluated on."""

    negatives: int = Field(default=100, ge=1)
    """Sampled negatives per evaluated user."""

    negatives_seed: int = Field(default=0, ge=0)
    """Seed of the negatives and of the sample of users; the same in every run to be compared."""

    max_eval_users: int | None = Field(default=None, ge=1)
    """Evaluate a sample of so many users; None: all."""
