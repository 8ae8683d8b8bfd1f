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
        If the folder is missing, no reader or more than one fits, or its files are malformed.
    ConfigError
        If the reader is not registered, or a setting is of no use to it.
    """
    if config.source == "synthetic":
        return generate(config.synthetic)
    folder = Path(config.source).expanduser()
    if not folder.is_dir():
        raise DataError(f'{folder} is not a folder; source is "synthetic" or a folder of data')
    reader = _reader(folder, config)
    _check_used(reader, folder, config)
    return clean(reader.read(folder.resolve()), config)


def _check_used(reader: Reader, folder: Path, config: DataConfig) -> None:
    """Raise `ConfigError` for a setting of readers that this one does not read."""
    usual = DataConfig()
    keys = ("columns", "interactions", "items_file")
    for key in set(keys) - set(getattr(reader, "settings", keys)):
        if getattr(config, key) != getattr(usual, key):
            raise ConfigError(
                f"data.{key} would not act: the files in {folder} are read by a reader that knows "
                "its own names; leave it out, or set data.reader = 'table'"
            )


def _reader(folder: Path, config: DataConfig) -> Reader:
    if config.reader != "auto":
        return readers.get(config.reader).build(config)
    if config.interactions or config.items_file:
        return readers.get("table").build(config)
    fitting, expected = {}, []
    for name in readers.names():
        try:
            reader = readers.get(name).build(config)
            expected.append(f"{name}: {reader.expects}")
            if reader.recognises(folder):
                fitting[name] = reader
        except Exception as error:  # of another package: it must not be in the way of the others
            expected.append(f"{name} fails: {type(error).__name__}: {error}")
    if len(fitting) > 1:
        raise DataError(f"{folder} fits several readers ({', '.join(fitting)}); set reader to one")
    if not fitting:
        raise DataError(f"{folder} holds no data set known here ({'; '.join(expected)})")
    return next(iter(fitting.values()))
