"""Where parts are registered: adapters, backbones, losses, readers, encoders, transforms.

A part is one class and one `register` call.  Another installed package adds parts through an entry
point of the group ``fedpeft.<plural>`` (for example ``fedpeft.adapters``) that names a module to
import; nothing in this project needs an edit.  A package whose part is broken harms nobody else:
the fault is kept, and told to whoever asks for the part.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Generic, TypeVar

from fedpeft.config import ConfigModel
from fedpeft.errors import ConfigError

T = TypeVar("T")


@dataclass(frozen=True)
class Part(Generic[T]):
    """One registered part: its name, its configuration class and what builds it."""

    name: str
    config: type[ConfigModel]
    build: Callable[..., T]


class Registry(Generic[T]):
    """Named parts of one kind.

    Parameters
    ----------
    kind
        What the parts are, in the singular; used in messages.
    plural
        The same in the plural: the entry-point group is ``fedpeft.<plural>``.
    builtin
        Modules that register the parts this project ships; imported at the first look-up, so that
        importing one part does not import all.  Each is called like its part.
    config
        What the configuration classes derive from.
    """

    def __init__(
        self,
        kind: str,
        plural: str,
        builtin: tuple[str, ...] = (),
        *,
        config: type[ConfigModel] = ConfigModel,
    ) -> None:
        self.kind = kind
        self.plural = plural
        self._builtin = builtin
        self._config = config
        self._parts: dict[str, Part[T]] = {}
        self._faults: dict[str, str] = {}
        """What is wrong with parts of other packages, by the name of their entry point."""
        self._loaded = False

    def register(self, name: str, *, config: type[ConfigModel], build: Callable[..., T]) -> None:
        """Add a part.

        Raises
        ------
        ValueError
            If the name is not lower-case letters, digits and underscores.
        KeyError
            If the name is taken, or a part of this project's.
        TypeError
            If `config` is no configuration class of this kind of parts, or `build` builds nothing.
        """
        if not re.fullmatch(r"[a-z]([a-z0-9_]*[a-z0-9])?", name):
            raise ValueError(
                f"{self.kind} name {name!r} must be lower-case letters, digits and '_', "
                "starting with a letter and not ending in '_'"
            )
        if not (isinstance(config, type) and issubclass(config, self._config)):
            raise TypeError(f"config = {config!r} must derive from {self._config.__name__}")
        if not callable(build):
            raise TypeError(f"build = {build!r} must be a class or a function")
        own = {module.rpartition(".")[2]: module for module in self._builtin}
        ours = own.get(name) in (None, getattr(build, "__module__", None))
        if name in self._parts or not ours:
            raise KeyError(f"{self.kind} {name!r} is registered already")
        self._parts[name] = Part(name, config, build)

    def unregister(self, name: str) -> None:
        """Take a part away again, as a test or a notebook that defines it anew needs.

        Raises
        ------
        KeyError
            If there is no such part.
        """
        del self._parts[name]

    def get(self, name: str) -> Part[T]:
        """Return the part called `name`.

        Raises
        ------
        ConfigError
            If there is none; the message names what there is, and what other packages offer that
            cannot be loaded.
        """
        self._load()
        try:
            return self._parts[name]
        except KeyError:
            known = f"unknown {self.kind} {name!r}; known are {', '.join(self.names())}"
            raise ConfigError("; ".join([known, *self._faults.values()])) from None

    def faults(self) -> list[str]:
        """Return a sentence for each part of another package that cannot be loaded."""
        self._load()
        return list(self._faults.values())

    def names(self) -> list[str]:
        """Return the registered names in alphabetical order."""
        self._load()
        return sorted(self._parts)

    def _load(self) -> None:
        if self._loaded:
            return
        self._loaded = True  # at once: a part may look others up while it is imported
        try:
            for module in self._builtin:
                import_module(module)
        except BaseException:
            self._loaded = False
            raise
        for point in entry_points(group=f"fedpeft.{self.plural}"):
            self._load_point(point)

    def _load_point(self, point: EntryPoint) -> None:
        """Import what another package offers; where that fails, nothing of it is registered."""
        before = dict(self._parts)
        try:
            with redirect_stdout(sys.stderr):  # standard output has results, perhaps JSON
                point.load()
        except (Exception, SystemExit) as error:
            self._parts = before
            self._faults[point.name] = (
                f"the entry point '{point.name} = {point.value}' of fedpeft.{self.plural}, "
                "which another installed package offers, cannot be loaded: "
                f"{type(error).__name__}: {error}"
            )
