"""Policy, recorder or progress node as a managed node: configure verifies, activate runs, deactivate ends.

`python -m tacit_ros.managed_node policy --ros-args ...` starts unconfigured, under the node's own name, with
the services and the topic of every managed node (`ros2 lifecycle set /policy configure`). While it is active,
the node itself is there, with its services; while it is not, nothing of it is.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from rclpy.lifecycle import LifecycleNodeMixin, LifecycleState, TransitionCallbackReturn
from rclpy.node import Node

from tacit.errors import ConfigError, TacitError, did_you_mean
from tacit.threads import Caught, Failure
from tacit_ros.policy_node import PolicyNode
from tacit_ros.progress_node import ProgressNode
from tacit_ros.recorder_node import RecorderNode
from tacit_ros.wire.process import WatchedNode, go_first, keep_freed_memory, run_node

KINDS: dict[str, Callable[[], WatchedNode]] = {
    "policy": PolicyNode,
    "progress": ProgressNode,
    "recorder": RecorderNode,
}
DONE, REFUSED = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE


class ManagedNode(LifecycleNodeMixin, WatchedNode):
    """Makes a node when it is activated, and takes it down when it is deactivated.

    Args:
        kind: A key of KINDS.

    Attributes:
        worker: The node while it is active, else None.

    Raises:
        ConfigError: No such kind.
    """

    def __init__(self, kind: str) -> None:
        if kind not in KINDS:
            raise ConfigError(f"managed node {kind!r}; {did_you_mean(kind, KINDS)}")
        # The worker has the same name: parameters and the log are its own.
        WatchedNode.__init__(self, kind, start_parameter_services=False, enable_rosout=False)
        LifecycleNodeMixin.__init__(self)
        self._make = KINDS[kind]
        self.worker: WatchedNode | None = None
        name = self.get_fully_qualified_name()
        self.get_logger().info(f"unconfigured: `ros2 lifecycle set {name} configure`, then activate")

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Verify rig, bundle and parameters: the node is made, and taken down again."""
        made = self._try(self._make)
        if made is None:
            return REFUSED
        _take_down(made)
        return DONE

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Make the node; it does what it does without a manager."""
        self.worker = self._try(self._make)
        if self.worker is None:
            return REFUSED
        self.worker.ending = self.ending
        assert self.executor is not None
        self.executor.add_node(self.worker)
        return DONE

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Bring the node to rest and take it down."""
        self._end_worker("deactivated")
        return DONE

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Bring the node to rest, take it down, and end the process."""
        self._end_worker("shut down")
        self.ending.begin()
        self.ending.leave()
        return DONE

    def halt(self, reason: str) -> None:
        """Bring the node to rest."""
        if self.worker is not None:
            self.failure = self.failure or self.worker.failure
            self.worker.halt_once(reason)

    def close(self) -> None:
        """Take the node down."""
        if self.worker is not None:
            self.failure = self.failure or self.worker.failure
            self._end_worker("closing")

    def _end_worker(self, reason: str) -> None:
        worker, self.worker = self.worker, None
        if worker is None:
            return
        worker.halt_once(reason)
        if self.executor is not None:
            self.executor.remove_node(worker)
        _take_down(worker)

    def _try(self, make: Callable[[], WatchedNode]) -> WatchedNode | None:
        """Return the node; None where it refuses or fails, which rclpy would not tell anybody."""
        made: list[WatchedNode] = []
        with Caught() as caught:
            made.append(make())
        if caught.error is not None:
            failure = Failure("make", caught.error)
            trace = "" if isinstance(caught.error, TacitError) else f"\n{failure.traceback}"
            self.get_logger().error(f"{caught.error}{trace}")
        return made[0] if made else None


def _take_down(node: Node) -> None:
    getattr(node, "close", lambda: None)()
    node.destroy_node()


def main(argv: list[str] | None = None) -> int:
    """Run the managed node whose kind is the first argument; exit code 2 where there is none."""
    words = sys.argv[1:] if argv is None else argv
    keep_freed_memory()
    if words[:1] == ["recorder"]:
        go_first()
    return run_node(lambda: ManagedNode(words[0] if words else ""), words)


if __name__ == "__main__":
    sys.exit(main())
