"""The command line: thin verbs over the library."""

import os

# Idle OpenMP threads that spin slow a run down many times over when other programs want the same
# cores; set before torch is imported, and left alone where the user has set it.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from fedpeft.cli.app import main

__all__ = ["main"]
