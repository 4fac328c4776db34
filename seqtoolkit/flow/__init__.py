"""What flows: the specs, the stages and the graph of a pipeline."""
