"""Strangers at a cloud-node, and what good clients notice: ``python -m tests.strangers``."""
