"""The untouched gels of a run: taken when it starts, refused where something may be touched.

A gel drifts, and is replaced; what a policy reads as touch is the difference from how this gel looks now.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping

import numpy as np

from tacit.bundle.manifest import Manifest
from tacit.control.safety import Fault
from tacit.errors import ImageError
from tacit.geometry.transforms import FloatArray
from tacit.images import Image, ImageTransform, decode_image
from tacit.images.gels import TOUCHED, local_structure
from tacit.rig import Rig

OPEN_FRACTION = 0.7
"""A gripper open by this share of its range is taken to hold nothing, while recording too. It is seldom
opened whole before a grasp (the simulated cell: 75 %), and what is gripped is seldom as wide as that."""
WHY = "a run begins with a picture of each gel without contact:"


class FreeGels:
    """Takes and holds the touch images without contact of one run.

    Args:
        rig: Its grippers.
        manifest: Which sensors, and how their gels looked in training.

    Attributes:
        images: RGB (H, W, 3) by sensor, as they were sent; empty before a run, and where a bundle needs none.
    """

    def __init__(self, rig: Rig, manifest: Manifest) -> None:
        self.images: dict[str, Image] = {}
        self._manifest = manifest
        self._blanks: dict[str, Image] = {}
        if manifest.touch_reference == "run":
            self._blanks = {name: _decoded(text, name) for name, text in manifest.free_gels.items()}
        self._grippers = [
            (rig.state_names.index(arm.gripper.name), arm.gripper)
            for arm in rig.arms.values()
            if arm.gripper is not None
        ]

    def closed(self, state: FloatArray) -> str:
        """Return in words which gripper may hold something at a state (S,); "" where all are open."""
        for place, gripper in self._grippers:
            if state[place] < OPEN_FRACTION * gripper.upper:
                need = f"{1e3 * OPEN_FRACTION * gripper.upper:.0f} mm"
                found = f"{gripper.name} is open by {1e3 * state[place]:.0f} mm"
                return f"{found}; a run begins with sensors that touch nothing: open it to {need}"
        return ""

    def take(self, state: FloatArray, touch: Mapping[str, Image]) -> Fault | None:
        """Take the gels as a run begins; those of the run before stay where a gripper is not open.

        Args:
            state: Measured (S,), in the order of the rig.
            touch: RGB (H, W, 3) by sensor, as sent: the recorder does not code references either.

        Returns:
            Why there are none: a closed gripper, or a gel that shows contact.
        """
        if not self._blanks:
            return None
        closed = self.closed(state)
        if closed:
            return None if self.images else Fault("touch_reference", closed)
        for name, blank in self._blanks.items():
            spec = self._manifest.touch[name]
            size = (spec.source_height, spec.source_width, spec.height, spec.width)
            found = local_structure(ImageTransform(*size, spec.mode).image(touch[name]), blank)
            if found > TOUCHED:
                detail = f"{name} is touched ({found:.1f} grey levels, free ones have {TOUCHED:g} at most)"
                return Fault("touch_reference", f"{detail}; {WHY} free it, or clean the gel")
        self.images = {name: np.array(touch[name]) for name in self._blanks}
        return None


def _decoded(text: str, name: str) -> Image:
    try:
        return decode_image(np.frombuffer(base64.b64decode(text), np.uint8))
    except (ValueError, ImageError) as problem:
        raise ImageError(f"bundle: free_gels.{name}: no picture: {problem}") from problem
