"""What is kept of runs on this machine: listed, described, told apart, and done again."""

from seqtoolkit.archive.comparison import Comparison, Different, compare
from seqtoolkit.archive.description import Description, describe_run
from seqtoolkit.archive.difference import Difference, diff_runs, differences
from seqtoolkit.archive.listing import Listed, Listing, list_runs
from seqtoolkit.archive.reproduction import Reproduction, reproduce

__all__ = [
    "Comparison",
    "Description",
    "Difference",
    "Different",
    "Listed",
    "Listing",
    "Reproduction",
    "compare",
    "describe_run",
    "diff_runs",
    "differences",
    "list_runs",
    "reproduce",
]
