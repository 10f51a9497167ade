"""`tacit record ...`: talk to a running recorder from a terminal or a foot pedal."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import rclpy
import tyro
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters
from rclpy.client import Client
from rclpy.node import Node
from std_srvs.srv import SetBool, Trigger

from tacit.config.arguments import Seconds, Seed, parse_words
from tacit.errors import TacitError
from tacit.rig import NAME_PATTERN
from tacit_ros.run.commands import Command
from tacit_ros.run.keys import play_keys
from tacit_ros.run.preflight import require_name
from tacit_ros.run.scripted import record_scripted, watch_cell
from tacit_ros.wire.environment import prepare
from tacit_ros.wire.session import Session

ANSWER_TIMEOUT_S = 30.0
REPEAT_S = 1.0


class RecorderError(TacitError):
    """The recorder does not answer, or refuses."""


@dataclass(frozen=True)
class RecordArgs:
    """Control a running recorder (start one with `tacit up record --rig <rig>`).

    start begins an episode; stop finishes it (--success, --failure, or unlabelled without either);
    discard moves the present one to the trash; redo does that and starts anew; delete_last moves the
    last finished one to the trash; mark notes an event; keys does all of it by single keys, until
    Ctrl-C; status says what goes on, what is wrong with which stream, and why a start would be
    refused (--json: all of it, for programs); demonstrate records one whole episode of the scripted
    expert (simulated rigs; --seed).
    """

    command: tyro.conf.Positional[Command]
    success: Annotated[bool, tyro.conf.arg(help="With stop: the task was done.")] = False
    failure: Annotated[bool, tyro.conf.arg(help="With stop: the task was not done.")] = False
    task: Annotated[str, tyro.conf.arg(help="With start: the task, and so the folder, from now on.")] = ""
    instruction: Annotated[
        str, tyro.conf.arg(help="With start: the instruction, as one would tell a person.")
    ] = ""
    json: Annotated[bool, tyro.conf.arg(help="With status: print it as JSON.")] = False
    seed: Annotated[Seed, tyro.conf.arg(help="With demonstrate: the start of the episode.")] = 0
    node: Annotated[str, tyro.conf.arg(help="Name of the recorder node.")] = "/recorder"
    timeout: Annotated[Seconds, tyro.conf.arg(help="How long to wait for the recorder [s].")] = 5.0


class RecorderClient:
    """Asks a recorder and waits for its answer, never longer than the deadline."""

    def __init__(self, node: Node, recorder: str = "/recorder", timeout_s: float = 5.0) -> None:
        """Talk to `recorder` from `node`, which must not be spinning elsewhere."""
        self._node, self._recorder, self._timeout_s = node, recorder, timeout_s

    def ask(self, command: Command, *, success: bool | None = None) -> str:
        """Send a command and return the recorder's answer.

        Args:
            command: What to do.
            success: With stop: whether the task was done; None leaves the episode unlabelled.

        Raises:
            RecorderError: No recorder answers, or it refuses; the message says why.
        """
        if command is not Command.status:
            self.ask(Command.status)  # can be repeated, and so makes sure that a living recorder listens
        name = f"{self._recorder}/{command.value}"
        if command is Command.stop and success is not None:
            client: Client = self._node.create_client(SetBool, name)
            response = self._call(client, SetBool.Request(data=bool(success)))
        else:
            name = f"{self._recorder}/finish" if command is Command.stop else name
            client = self._node.create_client(Trigger, name)
            response = self._call(client, Trigger.Request(), repeat=command is Command.status)
        if not response.success:
            raise RecorderError(f"{command.value}: {response.message}")
        return str(response.message)

    def set_texts(self, **values: str) -> None:
        """Set text parameters of the recorder, such as `task`.

        Raises:
            RecorderError: No recorder answers, or a value is refused.
        """
        client: Client = self._node.create_client(SetParameters, f"{self._recorder}/set_parameters")
        parameters = [
            Parameter(name=k, value=ParameterValue(type=ParameterType.PARAMETER_STRING, string_value=v))
            for k, v in values.items()
        ]
        for result in self._call(client, SetParameters.Request(parameters=parameters)).results:
            if not result.successful:
                raise RecorderError(f"{', '.join(values)}: {result.reason}")

    def _call(self, client: Client, request: Any, repeat: bool = False) -> Any:
        try:
            return self._answer(client, request, repeat)
        finally:
            self._node.destroy_client(client)

    def _answer(self, client: Client, request: Any, repeat: bool) -> Any:
        """Wait for an answer; with `repeat`, ask again each second.

        The services of a killed recorder stay known for about 20 s: a request may go to them alone.
        """
        if not client.wait_for_service(timeout_sec=self._timeout_s):
            raise RecorderError(
                f"no recorder answers as {client.srv_name} within {self._timeout_s:g} s; start one with "
                "`tacit up record --rig <rig>`, in the same ROS_DOMAIN_ID"
            )
        limit_s = max(self._timeout_s, 5.0) if repeat else ANSWER_TIMEOUT_S
        deadline = time.monotonic() + limit_s
        while time.monotonic() < deadline:
            future = client.call_async(request)
            rclpy.spin_until_future_complete(
                self._node, future, timeout_sec=REPEAT_S if repeat else ANSWER_TIMEOUT_S
            )
            if future.done():
                return future.result()
            client.remove_pending_request(future)
        raise RecorderError(f"{client.srv_name}: no answer within {limit_s:g} s; is the recorder alive?")


def main(argv: list[str] | None = None) -> int:
    """Carry out one command; prints the recorder's answer and returns the exit code."""
    args = parse_words(RecordArgs, argv, "tacit record")
    if (args.success or args.failure) and args.command is not Command.stop:
        raise RecorderError("--success and --failure belong to `tacit record stop`")
    if args.success and args.failure:
        raise RecorderError("--success and --failure: an episode is one of them; give one, or neither")
    _require_names(args)
    prepare()
    if args.command is Command.demonstrate:
        return _demonstrate(args)
    rclpy.init()
    node = Node(f"tacit_record_{time.time_ns() % 10**9}")
    try:
        return _run(RecorderClient(node, args.node, args.timeout), args)
    finally:
        node.destroy_node()
        rclpy.try_shutdown()


def _require_names(args: RecordArgs) -> None:
    require_name("--node", args.node)
    if args.task and (not re.match(NAME_PATTERN, args.task) or ".." in args.task):
        raise RecorderError(
            f"--task {args.task!r}: becomes a folder; use letters, digits, '.', '_' and '-' alone"
        )


def _demonstrate(args: RecordArgs) -> int:
    with Session(name=f"tacit_record_{time.time_ns() % 10**9}") as session:
        watch_cell(session)
        sys.stdout.write(record_scripted(session, args.seed) + "\n")
    return 0


def _run(client: RecorderClient, args: RecordArgs) -> int:
    texts = {k: v for k, v in (("task", args.task), ("instruction", args.instruction)) if v}
    if texts:
        client.set_texts(**texts)
    if args.command is Command.keys:
        return play_keys(client)
    answer = client.ask(args.command, success=args.success or (False if args.failure else None))
    if args.command is Command.status:
        status = json.loads(answer)
        answer = json.dumps(status, indent=2) if args.json else in_words(status)
    sys.stdout.write(answer + "\n")
    return 0


def in_words(status: Mapping[str, Any]) -> str:
    """Return a recorder's status for people: what it does, each stream, and what is wrong."""
    lines = [f"{status['state']}"]
    if status["state"] == "recording":
        lines = [f"recording {status['path']}: {status['num_ticks']} ticks"]
    for name, stream in status["streams"].items():
        counts = status["found"].get(name, {})
        line = f"  {name}: {stream['hz']:g} Hz, {stream['received']} messages"
        lines.append(line + "".join(f", {count} {kind}" for kind, count in counts.items()))
        if name in status["problems"]:
            lines.append(f"    {status['findings'].get(name, 'problem')}: {status['problems'][name]}")
    if status["not_ready"]:
        lines += ["a start would be refused:", *(f"- {reason}" for reason in status["not_ready"])]
    else:
        lines.append("ready to record")
    return "\n".join([*lines, f"{status['free_gb']:g} GB free"])
