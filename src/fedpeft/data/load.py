"""From a configuration to a data set."""

from __future__ import annotations

from pathlib import Path

from fedpeft.data.clean import clean
from fedpeft.data.config import DataConfig
from fedpeft.data.dataset import Dataset
from fedpeft.data.readers import Reader, readers
from fedpeft.data.synthetic import generate
from fedpeft.errors import ConfigError, DataError


def load(config: DataConfig) -> Dataset:
    """Read (or generate) and clean a data set.

    Raises
    ------
    DataError
        If the folder or file is missing, no reader or more than one fits, or files are malformed.
    ConfigError
        If the reader is not registered, or a setting is of no use to it.
    """
    if config.source == "synthetic":
        return generate(config.synthetic)
    if config.source == "memory":
        raise DataError(
            'the data of this run were given in Python (data.source = "memory"), so they are not '
            "here to be read again; hand them in again, as configure(file, data=dataset)"
        )
    source = Path(config.source).expanduser()
    if not source.exists():
        raise DataError(
            f'{source} does not exist; source is "synthetic", a folder of data, or a file of '
            "interactions"
        )
    reader = _reader(source, config)
    _check_used(reader, source, config)
    return clean(reader.read(source.resolve()), config)


def has_items(config: DataConfig) -> bool:
    """Return whether the data set of a source that exists comes with items, which are not read."""
    source = Path(config.source).expanduser()
    found = getattr(_reader(source, config), "has_items", None)
    return found is None or bool(found(source.resolve()))


def _check_used(reader: Reader, source: Path, config: DataConfig) -> None:
    """Raise `ConfigError` for a setting of readers that this one does not read."""
    usual = DataConfig()
    keys = ("columns", "interactions", "items_file")
    for key in set(keys) - set(getattr(reader, "settings", keys)):
        if getattr(config, key) != getattr(usual, key):
            raise ConfigError(
                f"data.{key} would not act: the files in {source} are read by a reader that knows "
                "its own names; leave it out, or set data.reader = 'table'"
            )


def _reader(source: Path, config: DataConfig) -> Reader:
    if config.reader != "auto":
        return readers.get(config.reader).build(config)
    if config.interactions or config.items_file or source.is_file():
        return readers.get("table").build(config)
    fitting, expected = {}, []
    for name in readers.names():
        try:
            reader = readers.get(name).build(config)
            expected.append(f"{name}: {reader.expects}")
            if reader.recognises(source):
                fitting[name] = reader
        except Exception as error:  # of another package: it must not be in the way of the others
            expected.append(f"{name} fails: {type(error).__name__}: {error}")
    if len(fitting) > 1 and not any(source.glob("interactions.*")):
        fitting.pop("table", None)  # some table that lies beside the files of a known format
    if len(fitting) > 1:
        raise DataError(f"{source} fits several readers ({', '.join(fitting)}); set reader to one")
    if not fitting:
        raise DataError(f"{source} holds no data set known here ({'; '.join(expected)})")
    return next(iter(fitting.values()))
