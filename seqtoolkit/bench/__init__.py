"""What things cost on the machine at hand: times side by side, operations, and memory kept for the backward pass."""
