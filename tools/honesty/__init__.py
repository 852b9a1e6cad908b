"""Simulate how often the drift alerts are wrong, and how late they are, beside other tools.

`rules` holds the formulas of the recording rules and alerts, `streams` draws the traffic, `study`
runs every rule over it, `peers` runs the real packages in an environment of their own, and `tables`
writes the result.
"""
