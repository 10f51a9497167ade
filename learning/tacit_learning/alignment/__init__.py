"""Progress: how far a task is, estimated causally from what the robot sees, feels and measures."""
