"""`tacit annotate`: label two episodes on a page, bring their steps to the rest by alignment, correct them.

Imports point down this list only: command > server > session > output, suggest > transfer > sources > labels.
"""
