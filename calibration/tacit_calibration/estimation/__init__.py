"""What the solvers stand on: small motions, board poses, first guesses, noise, and what data cannot tell.

Imports point down this list only:
adjustment > unsure > diagnosis, lens_fit, rigid >
arm_errors, board_pose, corner_ways, directions, mixups >
closed_form, degeneracy, increments, noise.
"""
