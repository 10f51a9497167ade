"""The environment of every process of ours: local discovery, shared memory, clean children.

Fast DDS reads these variables once, when the first node is made, so `prepare` runs before
`rclpy.init`. What the user has set stays as it is.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, MutableMapping
from pathlib import Path

DISCOVERY = "ROS_AUTOMATIC_DISCOVERY_RANGE"
PROFILES = "FASTDDS_DEFAULT_PROFILES_FILE"
TRANSPORTS = "FASTDDS_BUILTIN_TRANSPORTS"
BOOTSTRAP_GUARD = "_ROS_WHEELS_BOOTSTRAP_COMPLETE"
LIBRARY_PATH = "LD_LIBRARY_PATH"
CONFIG = Path(__file__).parent.parent / "config"
SHARED_MEMORY_PROFILE, LEASE_PROFILE = CONFIG / "fastdds_shm.xml", CONFIG / "fastdds_lease.xml"


def prepare(environ: MutableMapping[str, str] | None = None) -> None:
    """Keep discovery on this machine and give images a shared-memory segment that holds them.

    ROS 2 looks for nodes on the whole subnet unless told otherwise, and anyone there could publish
    joint commands. Where the user has widened the discovery or chosen transports, that profile would cut
    off other machines: another shortens the lease alone. A profile of the user's own stays.

    Args:
        environ: What to change; `os.environ` by default.
    """
    environ = os.environ if environ is None else environ
    environ.setdefault(DISCOVERY, "LOCALHOST")
    is_local = environ[DISCOVERY] == "LOCALHOST" and TRANSPORTS not in environ
    environ.setdefault(PROFILES, str(SHARED_MEMORY_PROFILE if is_local else LEASE_PROFILE))


def child_environment(
    python: str = sys.executable, environ: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Return the environment in which to start `python` as a child.

    The ROS wheels re-start each Python of their environment with LD_LIBRARY_PATH set, and mark that
    by a guard variable. A Python of another environment must inherit neither.

    Args:
        python: The interpreter that will run.
        environ: The environment to derive from; `os.environ` by default.
    """
    child = dict(os.environ if environ is None else environ)
    prepare(child)
    if Path(python).absolute() != Path(sys.executable).absolute():
        child.pop(BOOTSTRAP_GUARD, None)
        child.pop(LIBRARY_PATH, None)
    return child
