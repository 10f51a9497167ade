"""The verbs over alignment: evaluate, view, export signals, make and convert data."""
