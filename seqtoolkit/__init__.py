"""seqtoolkit: sequence-modelling experiments with pluggable memory cores and tasks, described as a flow of data."""
