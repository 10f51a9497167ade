"""Between messages and values: subscriptions and commands of a rig, parameters, the process of a node.

Imports point down this list only:
bag_draft, commanding, person, policy_diagnostics, progress_reactions >
commands, node_state, observations, process, publishers, stop_topics >
environment, hearing, parameters, qos, session, signals, upsampled >
decoders.
"""
