"""The only door for plugin authors: everything that a plugin may import from the toolkit."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from seqtoolkit.host.hooks import hookimpl

if TYPE_CHECKING:
    from seqtoolkit.flow.array import Array, Arrays
    from seqtoolkit.flow.batch import IGNORED, Batch, Collate
    from seqtoolkit.flow.core import Core, State, map_state, where_first
    from seqtoolkit.flow.counter import Split, counter_bits, counter_tensor
    from seqtoolkit.flow.encoder import Encoder
    from seqtoolkit.flow.environment import Environment, Policy, Step, check_actions
    from seqtoolkit.flow.head import Head, LikelihoodHead
    from seqtoolkit.flow.kind import Kind
    from seqtoolkit.flow.loss import Loss
    from seqtoolkit.flow.metric import Metric
    from seqtoolkit.flow.origin import Report
    from seqtoolkit.flow.source import Block, Case, Ragged, Sample, Source
    from seqtoolkit.flow.spec import Record, Spec, SpecError, record, unify
    from seqtoolkit.flow.transform import Transform
    from seqtoolkit.flow.variable import read_variables, require_shapes
    from seqtoolkit.host.offer import offer_environments
    from seqtoolkit.host.resource import find_grammar
    from seqtoolkit.train.learner import Learner
    from seqtoolkit.train.run import Run
    from seqtoolkit.train.tracking import Tracker

_HOMES = {
    "seqtoolkit.flow.array": ("Array", "Arrays"),
    "seqtoolkit.flow.environment": ("Environment", "Policy", "Step", "check_actions"),
    "seqtoolkit.flow.origin": ("Report",),
    "seqtoolkit.flow.batch": ("IGNORED", "Batch", "Collate"),
    "seqtoolkit.flow.core": ("Core", "State", "map_state", "where_first"),
    "seqtoolkit.flow.counter": ("Split", "counter_bits", "counter_tensor"),
    "seqtoolkit.flow.kind": ("Kind",),
    "seqtoolkit.flow.loss": ("Loss",),
    "seqtoolkit.flow.metric": ("Metric",),
    "seqtoolkit.flow.encoder": ("Encoder",),
    "seqtoolkit.flow.head": ("Head", "LikelihoodHead"),
    "seqtoolkit.flow.source": (
        "Block",
        "Case",
        "Ragged",
        "Sample",
        "Source",
    ),
    "seqtoolkit.flow.spec": ("Record", "Spec", "SpecError", "record", "unify"),
    "seqtoolkit.flow.transform": ("Transform",),
    "seqtoolkit.flow.variable": ("read_variables", "require_shapes"),
    "seqtoolkit.host.offer": ("offer_environments",),
    "seqtoolkit.host.resource": ("find_grammar",),
    "seqtoolkit.train.learner": ("Learner",),
    "seqtoolkit.train.run": ("Run",),
    "seqtoolkit.train.tracking": ("Tracker",),
}
_WHERE = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "IGNORED",
    "Array",
    "Arrays",
    "Batch",
    "Block",
    "Case",
    "Collate",
    "Core",
    "Encoder",
    "Environment",
    "Head",
    "Kind",
    "Learner",
    "LikelihoodHead",
    "Loss",
    "Metric",
    "Policy",
    "Ragged",
    "Record",
    "Report",
    "Run",
    "Sample",
    "Source",
    "Spec",
    "SpecError",
    "Split",
    "State",
    "Step",
    "Tracker",
    "Transform",
    "check_actions",
    "counter_bits",
    "counter_tensor",
    "find_grammar",
    "hookimpl",
    "map_state",
    "offer_environments",
    "read_variables",
    "record",
    "require_shapes",
    "unify",
    "where_first",
]


def __getattr__(name: str) -> Any:
    """Import a name from its home on first use, so that naming a plugin costs no import of torch."""
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_WHERE[name]), name)
