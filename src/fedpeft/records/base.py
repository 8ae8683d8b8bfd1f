"""The base class of records, and how a problem in one becomes a sentence."""

from __future__ import annotations

import re
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fedpeft.errors import ArtifactError


class Record(BaseModel):
    """A frozen record; keys that a later version added are ignored."""

    model_config = ConfigDict(
        frozen=True, extra="ignore", use_attribute_docstrings=True, allow_inf_nan=False
    )

    def to_json(self) -> dict[str, Any]:
        """Return the values that were given, ready for JSON."""
        return self.model_dump(mode="json", exclude_unset=True)


Whole = Annotated[int, Field(ge=-(2**63), lt=2**63)]
"""A whole number that arrays and tables can hold."""

Bytes = Annotated[int | float, Field(ge=0, lt=2**63)]

R = TypeVar("R", bound=Record)


def check(model: type[R], value: Any, where: str) -> R:
    """Validate `value` as `model`; its first problem becomes one sentence."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        if first["type"] == "missing":
            raise ArtifactError(f"{where} has no key {key!r}") from None
        if first["type"] == "value_error":  # raised by a validator of ours
            raise ArtifactError(f"{where}: {key!r} {first['ctx']['error']}") from None
        said = first["msg"][0].lower() + first["msg"][1:]
        subject = f"{key!r} = {first['input']!r}" if key else "the content"
        raise ArtifactError(f"{where}: {subject}: {said}") from None


def check_schema(found: Any, newest: int, where: str) -> int:
    """Return the schema that a file says it has; raises `ArtifactError` when it is unknown."""
    if type(found) is not int or not 1 <= found <= newest:
        raise ArtifactError(
            f"{where} has schema {found!r}; this version of fedpeft reads schemas 1 to {newest}"
        )
    return found


def schema_in(text: str) -> int | str:
    """Return the schema that a file tells as text; what is no number stays as it is."""
    return int(text) if re.fullmatch(r"[0-9]{1,9}", text) else text
