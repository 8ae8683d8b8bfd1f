"""Times written as text: dates and date-times of ISO 8601, as numbers."""

from __future__ import annotations

import polars as pl

_FORM = (
    r"^(?<date>\d{4}-\d{2}-\d{2})"
    r"(?:[Tt ](?<hour>[01]\d|2[0-3]):(?<minute>[0-5]\d)"
    r"(?::(?<second>[0-5]\d)(?:[.,](?<fraction>\d{1,9}))?)?"
    r"(?<zone> ?(?:[Zz]|UTC|GMT|(?<sign>[+-])(?<ahead>[01]\d|2[0-3])(?::?(?<past>[0-5]\d))?))?)?$"
)


def iso(values: pl.Series) -> pl.DataFrame:
    """Parse ISO 8601 dates and date-times, as databases and pandas write them too.

    A date alone is its midnight.  A time with a zone is counted in UTC, one without as if it were.

    Parameters
    ----------
    values
        Strings; nulls stay nulls.

    Returns
    -------
    DataFrame
        ``time`` (Int64, null where the text has another form): microseconds since 1970, or
        nanoseconds if any text has more than six decimals; ``zoned`` (Boolean).
    """
    parts = values.str.extract_groups(_FORM).struct.unnest()

    def number(column: str) -> pl.Expr:
        return pl.col(column).cast(pl.Int64).fill_null(0)

    decimals = parts["fraction"].str.len_chars().max()
    digits = 9 if isinstance(decimals, int) and decimals > 6 else 6
    day = pl.col("date").str.to_date("%Y-%m-%d", strict=False).cast(pl.Int64)
    seconds = day * 86_400 + number("hour") * 3_600 + number("minute") * 60 + number("second")
    offset = number("ahead") * 3_600 + number("past") * 60
    seconds = seconds - pl.when(pl.col("sign") == "-").then(-offset).otherwise(offset)
    inside = seconds.abs() < 2**63 // 10**digits  # nanoseconds reach from 1677 to 2262
    fraction = pl.col("fraction").str.pad_end(digits, "0").cast(pl.Int64).fill_null(0)
    return parts.select(
        time=pl.when(inside).then(seconds * 10**digits + fraction),
        zoned=pl.col("zone").is_not_null(),
    )
