"""REST clients: what the caller has at the server, without a session."""

from tinker_actors.clients.rest.account import Account
from tinker_actors.clients.rest.client import RestClient, start_rest_client

__all__ = ["Account", "RestClient", "start_rest_client"]
