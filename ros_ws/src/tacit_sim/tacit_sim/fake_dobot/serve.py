"""`python -m tacit_sim.fake_dobot.serve`: a Nova 2 that is none, on the usual ports, until Ctrl-C."""

from __future__ import annotations

import sys
import time

import numpy as np

from tacit.threads import Failure
from tacit_sim.fake_dobot.plant import FollowingArm
from tacit_sim.fake_dobot.server import FakeDobot

START = np.array([-0.3424, 0.0643, 2.0576, -0.5511, -1.5708, 1.2284])
PORTS = (29999, 30004)


def main() -> int:
    """Serve, and show every command but ServoJ with its answer."""
    failures: list[Failure] = []
    fake, shown = FakeDobot(FollowingArm(START), failures.append, PORTS), 0
    sys.stdout.write(f"a fake Dobot controller listens on 127.0.0.1, ports {PORTS[0]} and {PORTS[1]}\n")
    try:
        while not failures:
            time.sleep(0.1)
            for when, text in fake.log[shown:]:
                shown += 1
                if "ServoJ" not in text and "HoldRegs" not in text:
                    sys.stdout.write(f"{when:8.2f} s  {text}\n")
            sys.stdout.flush()
    except KeyboardInterrupt:
        pass
    finally:
        fake.close()
    return 1 if failures else 0


if __name__ == "__main__":
    raise SystemExit(main())
