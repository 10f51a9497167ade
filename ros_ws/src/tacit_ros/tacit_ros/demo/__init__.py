"""`tacit demo`: the whole loop on one laptop, from an empty folder to a report.

settings (how much of everything) < steps (resume what is done), processes (verbs and stacks) <
recording, acting < numbers, pictures < report < main.
"""
