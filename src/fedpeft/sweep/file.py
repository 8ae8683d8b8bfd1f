"""The grid file's format."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, model_validator

from fedpeft.config import ConfigModel, parse


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


class ChoicesConfig(ConfigModel):
    """A searched choice."""

    choices: tuple[str | int | float | bool, ...] = Field(min_length=1)
    """Values to choose from."""


class SearchConfig(ConfigModel):
    """Search on validation, for every combination of the axes."""

    trials: int = Field(ge=1)
    """Settings tried per combination of the axes; each runs with every seed."""
    seed: int = Field(0, ge=0)
    """Seed of the search."""
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
        return found


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
