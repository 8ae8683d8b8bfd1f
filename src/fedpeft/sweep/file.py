"""The grid file's format."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from fedpeft.config import ConfigModel, parse
from fedpeft.errors import ConfigError


class ExtraConfig(ConfigModel):
    """Cells outside the product."""

    labels: dict[str, str]
    """Label per axis; a label of the axis brings its settings along, a new one brings none.  An
    axis that is not named runs over all its labels."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """Settings over those of base and labels."""


class CompareConfig(ConfigModel):
    """What differences are taken against."""

    axis: str
    """Axis whose labels are compared, within every combination of the others."""
    reference: str
    """Label that the others are compared with."""


class RangeConfig(ConfigModel):
    """A searched number."""

    low: int | float
    """Lowest value; whole numbers at both ends search whole numbers."""
    high: int | float
    """Highest value."""
    log: bool = False
    """Whether to search on a logarithmic scale."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.high <= self.low:
            raise ValueError(f"high ({self.high:g}) must be above low ({self.low:g})")
        if self.log and self.low <= 0:
            raise ValueError(f"low ({self.low:g}) must be above 0 on a logarithmic scale")
        return self

    def holds(self, value: object) -> bool:
        """Return whether a value is in the range."""
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return number and self.low <= value <= self.high  # type: ignore[operator]


class ChoicesConfig(ConfigModel):
    """A searched choice."""

    choices: tuple[str | int | float | bool, ...] = Field(min_length=1)
    """Values to choose from."""

    def holds(self, value: object) -> bool:
        """Return whether a value is among the choices."""
        return value in self.choices


class SearchConfig(ConfigModel):
    """Search on validation, for every combination of the axes."""

    trials: int = Field(ge=1)
    """Settings tried per combination of the axes; each runs with every seed."""
    seed: int = Field(0, ge=0)
    """Seed of the search."""
    ranking: Literal["sampled", "full"] = "sampled"
    """Which NDCG@10 on validation is maximised: against the sampled negatives, or against the whole
    catalogue."""
    start: dict[str, str | int | float | bool] = Field(default_factory=dict)
    """The values of all keys in the first trial; empty: the search chooses them."""
    keys: dict[str, dict[str, Any]] = Field(min_length=1)
    """What is searched, by dotted key: ``{low, high, log}`` or ``{choices}``."""

    def spaces(self) -> dict[str, RangeConfig | ChoicesConfig]:
        """Return what each key may be; raises `ConfigError` where a table is neither kind."""
        found: dict[str, RangeConfig | ChoicesConfig] = {}
        for key, table in self.keys.items():
            model: type[RangeConfig | ChoicesConfig] = (
                ChoicesConfig if "choices" in table else RangeConfig
            )
            found[key] = parse(model, table, f"search.keys.{key}")
        if self.start:
            self._check_start(found)
        return found

    def _check_start(self, spaces: Mapping[str, RangeConfig | ChoicesConfig]) -> None:
        """Raise `ConfigError` where the first trial has other keys, or a value out of its range."""
        for key in sorted(spaces.keys() ^ self.start.keys()):
            place, other = ("start", "keys") if key in self.start else ("keys", "start")
            raise ConfigError(f"search.{place} has {key}, which search.{other} lacks")
        for key, space in spaces.items():
            if not space.holds(self.start[key]):
                raise ConfigError(
                    f"search.start.{key} = {self.start[key]!r} is none of the values that "
                    "search.keys has for it"
                )


def _distinct(seeds: tuple[int, ...]) -> tuple[int, ...]:
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"{list(seeds)} names a seed twice")
    return seeds


class GridConfig(ConfigModel):
    """A grid file."""

    seeds: Annotated[
        tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1), AfterValidator(_distinct)
    ] = (0,)
    """Seeds that every cell runs with."""
    base: dict[str, Any] = Field(default_factory=dict)
    """Settings of a run that all cells share."""
    axes: dict[str, Any] = Field(default_factory=dict)
    """A dotted key with a list of values, or a name with settings per label."""
    extra: tuple[ExtraConfig, ...] = ()
    """Cells outside the product of the axes."""
    exclude: tuple[dict[str, str | list[str]], ...] = ()
    """Label patterns (``*`` stands for anything); a cell that fits all of one table is left out."""
    compare: CompareConfig | None = None
    """What differences are taken against."""
    search: SearchConfig | None = None
    """Search instead of a plain grid."""
