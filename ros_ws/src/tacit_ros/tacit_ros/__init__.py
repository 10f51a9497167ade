"""Thin ROS 2 nodes over the pure core `tacit`: they move bytes and time, and decide nothing else.

Order of imports, each module only from those before it: environment, qos, messages, parameters,
process, observations, stacks; then the nodes; then `up`, `record_client` and `bench`, which start
or call nodes. No module imports torch.
"""
