"""Trials of the daemons that take minutes to hours; each writes a report below ``build/``."""
