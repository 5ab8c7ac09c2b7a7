"""Measurements as ratios to their references, both in one run (extra ``bench``).

Every part gives the same thing, a ``figures.Part``: claims with what is wanted of them, tables, and
notes. Nothing here imports a daemon: they run as processes of their own, as users run them.
"""
