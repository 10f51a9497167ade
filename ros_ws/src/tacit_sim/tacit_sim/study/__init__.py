"""Studies: what one ingredient of a policy is worth, trained, evaluated and written up by one command.

Every step is a verb of `tacit` in a process of its own, so a study acts as a user does and this room imports
no torch. Imports point down this list only: command > report > runs > plan > verbs.
"""
