"""A generated set for alignment and progress: a two-link arm does six chores, every frame's truth known."""
