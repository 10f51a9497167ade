"""`tacit demo`: the whole loop on one laptop, from an empty folder to a report.

settings (how much of everything) < steps (resume what is done), session and processes (talk to
nodes and verbs) < recording, acting < numbers, pictures < report < main.
"""
