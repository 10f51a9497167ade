"""The operator's desk: a page on this machine that shows every stream and takes the operator's keys.

`views` keeps the newest pictures, `clerk` asks the recorder on a thread of its own, `server` answers the
page `desk.html`.

Imports point down this list only: server > clerk, views.
"""
