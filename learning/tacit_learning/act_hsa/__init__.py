"""ACT-HSA: action chunking with touch, and touch aligned with the place where it is seen."""
