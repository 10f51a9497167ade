"""What tests of nodes need: a ROS domain of their own, and waiting for a fact with a deadline.

Importing this module changes nothing; `isolate` must run before the first message package is
imported, because field checks are read at import.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tacit_ros.wire.environment import DISCOVERY, prepare

FIRST_DOMAIN, LAST_DOMAIN = 1, 101  # above, the ports meet the ephemeral range of Linux
FIELD_CHECKS = "ROS_PYTHON_CHECK_FIELDS"


@contextlib.contextmanager
def isolated_domain() -> Iterator[int]:
    """Hold a ROS_DOMAIN_ID that no other test session on this machine holds, local to the machine.

    Sets the variables for this process and its children, and restores them.

    Yields:
        The domain id.

    Raises:
        RuntimeError: All domains are taken.
    """
    before = dict(os.environ)
    with _locked_domain() as domain:
        os.environ |= {"ROS_DOMAIN_ID": str(domain), DISCOVERY: "LOCALHOST", FIELD_CHECKS: "1"}
        prepare()
        try:
            yield domain
        finally:
            os.environ.clear()
            os.environ.update(before)


@contextlib.contextmanager
def _locked_domain() -> Iterator[int]:
    """Take the first domain whose lock file is free; the lock ends with the process."""
    folder = Path(tempfile.gettempdir()) / "tacit_ros_domains"
    folder.mkdir(exist_ok=True)
    count = LAST_DOMAIN - FIRST_DOMAIN + 1
    for step in range(count):
        domain = FIRST_DOMAIN + (os.getpid() + step) % count
        with (folder / str(domain)).open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            yield domain
            return
    raise RuntimeError(f"all ROS domains {FIRST_DOMAIN}..{LAST_DOMAIN} are locked in {folder}")


def wait_until(
    fact: Callable[[], object], what: str, timeout_s: float = 60.0, step: Callable[[], object] | None = None
) -> None:
    """Return as soon as `fact()` is true.

    Args:
        fact: Checked again and again.
        what: Named in the error.
        timeout_s: Deadline [s].
        step: Done between checks, such as spinning an executor once; a nap of 5 ms by default.

    Raises:
        TimeoutError: The deadline has passed.
    """
    deadline = time.monotonic() + timeout_s
    while not fact():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {timeout_s:g} s")
        if step is None:
            time.sleep(0.005)
        else:
            step()
