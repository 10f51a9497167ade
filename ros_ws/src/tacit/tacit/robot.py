"""Public face of `tacit.geometry.robot`: kinematics of one arm."""

from tacit.geometry.robot import InverseResult, Robot

__all__ = ["InverseResult", "Robot"]
