"""The server: its state, its broadcasts, and the step it takes on a sum of uploads."""

from fedpeft.server.round import Server
from fedpeft.server.state import ServerState

__all__ = ["Server", "ServerState"]
