"""Measures: the metrics of the machine, in the order in which they are shown."""

MEASURED = ("seconds", "examples_per_second", "peak_memory_megabytes")
"""What a run has cost: two runs that are the same differ in them."""


def measured(metric: str) -> bool:
    """Whether a metric is of the machine: equal runs differ in it."""
    return metric in MEASURED or metric.startswith("system/")
