"""Settings of the data: where it comes from, how it is cleaned, how it is split."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from fedpeft.config import ActsIf, ConfigModel


class ColumnsConfig(ConfigModel):
    """Column names of a table of the user's own; the MovieLens and Amazon readers know theirs.

    A name that is left at its default also stands for usual names of that column, in any spelling
    (`fedpeft.data.columns`).  A table in which several may be meant is refused."""

    acting: ClassVar = {
        "time_format": ActsIf("a time column", lambda table: bool(table.timestamp)),
    }

    user: str = Field("user_id", min_length=1)
    """User column of the interactions."""

    item: str = Field("item_id", min_length=1)
    """Item column, in the interactions and in the items file."""

    timestamp: str | None = "timestamp"
    """Number or date by which a user's interactions are ordered; "" or None: there are no times,
    and `data.order` says what that means."""

    time_format: str | None = Field(None, min_length=1)
    """How text in the time column is written, as in Python's `strptime`, such as
    "%d.%m.%Y %H:%M"; None: as numbers, or in ISO 8601."""

    position: str | None = None
    """Number by which `data.order = "file"` orders a user's interactions, where the rows are no
    longer in the order of the file that they come from; None: by row."""

    rating: str | None = None
    """Rating column of the interactions, needed for `min_rating` only; None: a usual name, such as
    ``rating`` or ``stars``, where there is one."""

    event: str | None = None
    """Column with the kind of each interaction, needed for `data.events` only; None: a usual name,
    such as ``event`` or ``action``, where there is one."""

    title: str = Field("title", min_length=1)
    """Title column of the items file; where it has none, an item's title is its id."""

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


BUILT = ("synthetic", "memory")
"""Sources that are no files: the generator, and tables given in Python."""


def _draws(table: DataConfig) -> bool:
    """Return whether the place of any interaction is drawn."""
    return table.order == "none" or (table.order == "time" and table.ties == "seeded")


class DataConfig(ConfigModel):
    """What is read and how it is cleaned."""

    acting: ClassVar = {
        **dict.fromkeys(
            (
                "reader",
                "order",
                "min_interactions",
                "min_rating",
                "events",
                "items",
                "empty_text",
                "unknown_items",
                "interactions",
                "items_file",
                "columns",
            ),
            ActsIf("a folder or a file as source", lambda table: table.source not in BUILT),
        ),
        "ties": ActsIf(
            "a folder or a file as source, and order = 'time'",
            lambda table: table.source not in BUILT and table.order == "time",
        ),
        "order_seed": ActsIf(
            "a folder or a file as source, and order = 'none', or 'time' with ties = 'seeded'",
            lambda table: table.source not in BUILT and _draws(table),
        ),
        "columns.timestamp": ActsIf("order = 'time'", lambda table: table.order == "time"),
        "columns.time_format": ActsIf("order = 'time'", lambda table: table.order == "time"),
        "columns.position": ActsIf("order = 'file'", lambda table: table.order == "file"),
        "columns.rating": ActsIf("min_rating", lambda table: table.min_rating is not None),
        "columns.event": ActsIf("data.events", lambda table: bool(table.events)),
        "synthetic": ActsIf("source = 'synthetic'", lambda table: table.source == "synthetic"),
    }

    source: str = Field("synthetic", min_length=1)
    """The word "synthetic", the folder of a data set, or a single file of interactions.  A run on
    tables that were given in Python has the word "memory"."""

    reader: str = "auto"
    """Registered name of a reader; "auto" finds the one whose files are present."""

    order: Literal["time", "file", "none"] = "time"
    """Order of a user's interactions.  `time`: by time; data without times have no order then.
    `file`: by row of the interactions file (or by `columns.position`), for files that are in time
    order, and for the paper's split, whose test items are arbitrary.  `none`: no order; which items
    are held out is drawn, and nothing is weighted by its age."""

    ties: Literal["seeded", "file"] = "seeded"
    """Order among a user's interactions of one time: drawn, by a hash of `order_seed`, the user id
    and the item id, or by row of the file.  Many files are sorted by item, and the last row is then
    the newest item."""

    order_seed: int = Field(default=0, ge=0)
    """Seed of what is drawn where there is no order or a tie; the same in every run to be
    compared."""

    min_interactions: int = Field(default=3, ge=3)
    """Users with fewer distinct items are dropped; train, validation and test need one each."""

    min_rating: float | None = None
    """Interactions with a lower rating are dropped; None keeps all."""

    events: dict[str, float] = Field(default_factory=dict)
    """Kinds of interactions that count, each with its weight in the loss, such as ``buy = 1.0`` and
    ``cart = 0.5``; others are dropped.  Of several interactions with an item the strongest stays.
    Empty: all count alike, whatever their kind."""

    items: Literal["interacted", "all"] = "interacted"
    """Catalogue: items with an interaction left after cleaning, or all of the items file."""

    empty_text: Literal["error", "keep"] = "error"
    """What to do with an item of the catalogue that has no text."""

    unknown_items: Literal["auto", "error", "drop"] = "auto"
    """What to do with an interaction whose item is not in the items file; "auto" leaves it to the
    reader (error, except Amazon, whose metadata has gaps: drop)."""

    interactions: str | None = None
    """File of the interactions inside `source`, for the table reader; None: ``interactions.*``, or
    the only table besides ``items.*``."""

    items_file: str | None = None
    """File of the items inside `source`, or beside it where that is a file, for the table reader;
    None: ``items.*`` in a folder.  Without a file of items the catalogue is made of the ids."""

    columns: ColumnsConfig = ColumnsConfig()
    """Column names, for the table reader.  A name that is left at its default also stands for usual
    ones, such as ``userId`` or ``customer`` for `user`, where the table has one of them."""

    synthetic: SyntheticConfig = SyntheticConfig()
    """Settings of the generator, for `source` "synthetic"."""

    @field_validator("events")
    @classmethod
    def _above_zero(cls, events: dict[str, float]) -> dict[str, float]:
        for name, weight in events.items():
            if not weight > 0:
                raise ValueError(
                    f"{name} = {weight:g} must be above 0; leave out what is not to count"
                )
        return events


class SplitConfig(ConfigModel):
    """How histories are split and which candidates users are evaluated on."""

    negatives: int = Field(default=100, ge=1)
    """Sampled negatives per evaluated user."""

    negatives_seed: int = Field(default=0, ge=0)
    """Seed of the negatives and of the sample of users; the same in every run to be compared."""

    max_eval_users: int | None = Field(default=None, ge=1)
    """Evaluate a sample of so many users; None: all."""
