"""One client: what it keeps, what it makes of a broadcast, and what it sends back."""

from fedpeft.client.join import join
from fedpeft.client.pipeline import Pipeline
from fedpeft.client.replica import Replica
from fedpeft.client.round import client_round
from fedpeft.client.state import ClientState

__all__ = ["ClientState", "Pipeline", "Replica", "client_round", "join"]
