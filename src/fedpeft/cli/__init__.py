"""The command line: thin verbs over the library."""

from fedpeft.cli.app import main

__all__ = ["main"]
