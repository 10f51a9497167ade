"""Robots that we speak to ourselves: the protocol, the connection, what may be sent when.

Imports point down this list only:
dobot.
"""
