"""LeRobot's own ACT, one training step for each line of stdin; run by a Python that has LeRobot 0.4.4.

`tacit bench act_hsa --lerobot PYTHON` starts it and takes turns with it. Of this project nothing is imported.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from typing import Any
from unittest import mock

import torch


def load_torchvision() -> None:
    """Import torchvision also where its compiled operators do not fit this torch; ACT needs none of them."""
    register = torch.library.register_fake

    def lenient(operator: str, *arguments: Any, **options: Any) -> Any:
        def keep(function: Any) -> Any:
            with contextlib.suppress(RuntimeError):  # no such operator
                register(operator, *arguments, **options)(function)
            return function

        return keep

    with mock.patch.object(torch.library, "register_fake", lenient):
        import torchvision
    assert torchvision.models


def main() -> None:
    """Build ACT as the line of arguments says; then answer each line with the CPU seconds of a step."""
    sizes = json.loads(sys.argv[1])
    torch.set_num_threads(1)
    torch.manual_seed(0)
    load_torchvision()
    from lerobot.configs.types import FeatureType, PolicyFeature
    from lerobot.policies.act.configuration_act import ACTConfig
    from lerobot.policies.act.modeling_act import ACTPolicy

    cameras = [f"observation.images.{n}" for n in range(sizes["cameras"])]
    shape = (3, sizes["height"], sizes["width"])
    inputs = {name: PolicyFeature(FeatureType.VISUAL, shape) for name in cameras}
    inputs["observation.state"] = PolicyFeature(FeatureType.STATE, (sizes["actions"],))
    outputs = {"action": PolicyFeature(FeatureType.ACTION, (sizes["actions"],))}
    chunk = sizes["chunk"]
    config = ACTConfig(
        input_features=inputs,
        output_features=outputs,
        chunk_size=chunk,
        n_action_steps=chunk,
        pretrained_backbone_weights=None,
        device="cpu",
    )
    policy = ACTPolicy(config).train()
    optimizer = torch.optim.AdamW(policy.get_optim_params(), lr=1e-5, weight_decay=1e-4, fused=True)
    rows = sizes["batch"]
    batch = {name: torch.rand(rows, *shape) for name in cameras}
    batch["observation.state"] = torch.randn(rows, sizes["actions"])
    batch["action"] = torch.randn(rows, chunk, sizes["actions"])
    batch["action_is_pad"] = torch.zeros(rows, chunk, dtype=torch.bool)
    for _ in sys.stdin:
        begin = time.process_time()
        loss, _ = policy.forward(batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(policy.parameters(), 10.0)
        optimizer.step()
        optimizer.zero_grad()
        sys.stdout.write(f"{time.process_time() - begin}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
