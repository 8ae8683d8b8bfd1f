"""``search.journal``: what optuna keeps of a search."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from fedpeft.errors import ArtifactError, MissingExtraError
from fedpeft.records.sweep import JOURNAL_LOCK


def import_optuna() -> Any:
    """Return optuna, which says errors only; raises `MissingExtraError` where it is missing."""
    try:
        import optuna
    except ImportError:
        raise MissingExtraError(
            "a search needs the extra 'tune': pip install 'fedpeft[tune]'"
        ) from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


def open_journal(journal: Path) -> Any:
    """Return the storage of a journal, which nobody else has open: the sweep's folder is locked.

    Raises
    ------
    ArtifactError
        If it is damaged.
    """
    storages = import_optuna().storages
    journal = journal.resolve()  # optuna's lock is a link to it, by the path that it was given
    journal.parent.mkdir(parents=True, exist_ok=True)
    journal.with_name(JOURNAL_LOCK).unlink(missing_ok=True)  # left by a kill
    _cut_torn_line(journal)
    try:
        return storages.JournalStorage(storages.journal.JournalFileBackend(str(journal)))
    except (ValueError, KeyError, TypeError, AttributeError, AssertionError) as error:
        raise ArtifactError(
            f"{journal} is damaged ({error!r}); without it the search begins anew, with the runs "
            "there are"
        ) from None


def _cut_torn_line(journal: Path) -> None:
    """Drop what a kill left of a last line; optuna would write on behind it."""
    if journal.is_file():
        os.truncate(journal, journal.read_bytes().rfind(b"\n") + 1)
