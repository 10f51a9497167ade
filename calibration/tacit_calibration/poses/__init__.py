"""Robot poses as people have them: tables, documents, what controllers print, arrays, ROS bags.

`files` reads whatever is given; what its numbers mean where it is silent, `pose_conventions` finds out.

Imports point down this list only:
bags, files > documents > columns > lines > table.
"""
