"""What things cost on the machine at hand: times side by side, operations, and memory."""

from seqtoolkit.bench.clock import interleaved
from seqtoolkit.bench.cost import Cost, cost

__all__ = ["Cost", "cost", "interleaved"]
