"""`tacit demo`: the whole loop on one laptop, from an empty folder to a report.

`settings` says how much of everything, `steps` resumes what is done, `processes` runs verbs and stacks;
`recording` and `acting` do the two halves, `report` shows what came out.

Imports point down this list only:
main > report > numbers > acting, recording, outcome > processes, settings, steps.
"""
