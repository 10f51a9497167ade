"""A person moves the robot: keys, game pads, space mice, twists and leader arms become targets for joints.

Pure: times are passed in. What comes out goes through `tacit.control.controller`, limits and workspace
included, as the commands of a policy do.

Imports point down this list only: person, terminal > devices, jog, leader > wish.
"""

from tacit.teleop.person import Person, TeleopSettings
from tacit.teleop.wish import Event

__all__ = ["Event", "Person", "TeleopSettings"]
