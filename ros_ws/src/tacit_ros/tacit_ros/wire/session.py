"""A client of the running nodes: services with deadlines, parameters, and the latest of a topic."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

import rclpy
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters
from rclpy.node import Node
from std_srvs.srv import SetBool, Trigger

from tacit.errors import TacitError

SPIN_SECONDS = 0.02
"""Longest single spin: short enough that conditions are looked at 50 times a second."""

RETRY_SECONDS = 0.1


class SessionError(TacitError):
    """A node did not answer in time, or refused."""


class Session:
    """One rclpy node that asks the others; use as a context manager.

    Args:
        check: Called while waiting; raises when the other nodes are gone.
    """

    def __init__(self, check: Callable[[], None] = lambda: None, name: str = "demo") -> None:
        """Start the client node in the current ROS domain."""
        self._check = check
        if not rclpy.ok():
            rclpy.init()
        self.node = Node(name)
        self._latest: dict[str, Any] = {}
        self._clients: dict[str, Any] = {}

    def __enter__(self) -> Session:
        """Return the session."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the client node."""
        self.node.destroy_node()
        rclpy.try_shutdown()

    def watch(self, topic: str, message_type: type, qos: Any = 10) -> None:
        """Keep the latest message of `topic` for `latest`."""
        self._latest.setdefault(topic, None)
        self.node.create_subscription(message_type, topic, lambda m: self._latest.update({topic: m}), qos)

    def latest(self, topic: str) -> Any:
        """Return the latest message of a watched topic, or None before the first."""
        return self._latest[topic]

    def forget(self, topic: str) -> None:
        """Drop the latest message of `topic`, so that the next one is new."""
        self._latest[topic] = None

    def spin_until(self, condition: Callable[[], bool], seconds: float, what: str) -> None:
        """Handle messages until `condition` holds.

        Raises:
            SessionError: It did not hold within `seconds`; the message says `what` was awaited.
        """
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise SessionError(f"waited {seconds:.0f} s for {what}; look at the node's log")
            self._check()
            rclpy.spin_once(self.node, timeout_sec=SPIN_SECONDS)

    def spin_for(self, seconds: float) -> None:
        """Handle messages for a while."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            rclpy.spin_once(self.node, timeout_sec=SPIN_SECONDS)

    def trigger(self, service: str, seconds: float = 30.0) -> dict[str, Any]:
        """Call a Trigger service; return its message, parsed when it is JSON.

        Raises:
            SessionError: No answer in time, or success is false (with the node's own message).
        """
        return self._answer(service, self._call(service, Trigger, Trigger.Request(), seconds))

    def trigger_until_accepted(self, service: str, seconds: float) -> dict[str, Any]:
        """Call a Trigger service again and again until it accepts.

        Raises:
            SessionError: It still refuses after `seconds`; the message is its last.
        """
        deadline = time.monotonic() + seconds
        while True:
            try:
                return self.trigger(service)
            except SessionError:
                if time.monotonic() > deadline:
                    raise
            self.spin_for(RETRY_SECONDS)

    def set_bool(self, service: str, value: bool, seconds: float = 30.0) -> dict[str, Any]:
        """Call a SetBool service; like `trigger`."""
        request = SetBool.Request(data=bool(value))
        return self._answer(service, self._call(service, SetBool, request, seconds))

    def set_parameters(self, node: str, values: Mapping[str, Any], seconds: float = 10.0) -> None:
        """Set parameters of another node.

        Raises:
            SessionError: The node does not answer or rejects a value.
        """
        request = SetParameters.Request()
        request.parameters = [Parameter(name=k, value=_parameter_value(v)) for k, v in values.items()]
        response = self._call(f"/{node}/set_parameters", SetParameters, request, seconds)
        for (name, value), result in zip(values.items(), response.results, strict=True):
            if not result.successful:
                raise SessionError(f"/{node} refused {name}={value!r}: {result.reason}")

    def _call(self, service: str, kind: type, request: Any, seconds: float) -> Any:
        client = self._clients.get(service)
        if client is None:
            client = self._clients[service] = self.node.create_client(kind, service)
        self.spin_until(client.service_is_ready, seconds, f"service {service}")
        future = client.call_async(request)
        self.spin_until(future.done, seconds, f"the answer of {service}")
        return future.result()

    @staticmethod
    def _answer(service: str, response: Any) -> dict[str, Any]:
        if not response.success:
            raise SessionError(f"{service}: {response.message}")
        try:
            parsed = json.loads(response.message)
        except json.JSONDecodeError:
            parsed = None
        return parsed if isinstance(parsed, dict) else {"message": response.message}


def _parameter_value(value: bool | int | float | str) -> ParameterValue:
    """Wrap a Python value; bool is tested before int, of which it is a subclass."""
    if isinstance(value, bool):
        return ParameterValue(type=ParameterType.PARAMETER_BOOL, bool_value=value)
    if isinstance(value, int):
        return ParameterValue(type=ParameterType.PARAMETER_INTEGER, integer_value=value)
    if isinstance(value, float):
        return ParameterValue(type=ParameterType.PARAMETER_DOUBLE, double_value=value)
    return ParameterValue(type=ParameterType.PARAMETER_STRING, string_value=value)
