"""Questions to this machine, each asked in a process of its own: `doctor` turns answers into checks.

The core may import neither rclpy nor mujoco nor torch, and a broken driver may crash the process that
asks; so each probe is a short program whose last line of output is one JSON object.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

PROBE_TIMEOUT_S = 60.0

RCLPY = """
import json, time
begin = time.perf_counter()
import rclpy
rclpy.init()
node = rclpy.create_node("tacit_doctor")
implementation = rclpy.get_rmw_implementation_identifier()
node.destroy_node()
rclpy.shutdown()
print(json.dumps({"file": rclpy.__file__, "rmw": implementation, "seconds": time.perf_counter() - begin}))
"""

RENDER = """
import json, time
import mujoco
xml = ('<mujoco><visual><quality shadowsize="0" offsamples="0"/></visual><worldbody>'
       '<light pos="0 0 3"/><camera name="eye" pos="0 -1 0.5" xyaxes="1 0 0 0 0.447 0.894"/>'
       '<geom type="box" size=".2 .2 .2" rgba="1 0 0 1"/></worldbody></mujoco>')
model = mujoco.MjModel.from_xml_string(xml)
data = mujoco.MjData(model)
mujoco.mj_forward(model, data)
renderer = mujoco.Renderer(model, 120, 160)
renderer.update_scene(data, "eye")
image = renderer.render()
begin = time.perf_counter()
renderer.update_scene(data, "eye")
image = renderer.render()
ms = 1e3 * (time.perf_counter() - begin)
red = int(((image[..., 0] > 60) & (image[..., 1] < 40)).sum())
print(json.dumps({"red_pixels": red, "ms": ms, "mujoco": mujoco.__version__}), flush=True)
renderer.close()
"""

TORCH = """
import json, torch
gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
print(json.dumps({"torch": torch.__version__, "gpus": gpus}))
"""


class ProbeError(RuntimeError):
    """The program of a probe failed; the message is its last line of complaint."""


def ask(program: str, environment: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Run `program` under this Python and return the JSON object it prints last.

    Args:
        program: Source of the probe.
        environment: Variables to add to those of this process.

    Raises:
        ProbeError: It failed, crashed, took more than 60 s, or printed no JSON.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, **(environment or {})},
            capture_output=True,
            text=True,
            timeout=PROBE_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ProbeError(f"no answer after {PROBE_TIMEOUT_S:.0f} s") from None
    answer = next((line for line in reversed(done.stdout.splitlines()) if line.startswith("{")), None)
    if answer is None:
        complaint = done.stderr.strip().splitlines() or [f"ended with code {done.returncode}"]
        raise ProbeError(complaint[-1])
    return dict(json.loads(answer))
