"""Threads that are watched, and requests between them.

Imports point down this list only: requests > watched.
"""

from tacit.threads.requests import Requests
from tacit.threads.watched import Caught, Failure, OnFailure, WatchedThread

__all__ = ["Caught", "Failure", "OnFailure", "Requests", "WatchedThread"]
