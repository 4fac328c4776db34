"""The reference's loop over time, made fast: each module has the `unroll` of `reference.py`, and is imported when chosen."""
