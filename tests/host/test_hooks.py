"""Hooks: each kind of part has one, and one sentence says what it brings."""

import inspect

from seqtoolkit.host import hooks
from seqtoolkit.host.plugin import new_manager

SPECS = {name for name, value in vars(hooks).items() if hasattr(value, "seqtoolkit_spec")}
LIFE = {"run_started", "logged", "evaluated", "checkpoint_saved", "noted", "run_ended"}


def test_each_hook_is_known_for_what_it_brings():
    """A hook brings a kind of part, names a folder, or tells of a run; there is no other."""
    assert {*hooks.KINDS.values(), *hooks.FOLDERS, *LIFE} == SPECS
    assert len({*hooks.KINDS.values()}) == len(hooks.KINDS)


def test_each_hook_is_what_pluggy_calls():
    """Every hook is one of the manager's, and takes what it is told of by name."""
    manager = new_manager()
    assert {name for name, hook in vars(manager.hook).items() if hook.has_spec()} == SPECS
    for name in {*hooks.KINDS.values(), *hooks.FOLDERS}:
        assert not inspect.signature(getattr(hooks, name)).parameters
    for name in LIFE:
        assert next(iter(inspect.signature(getattr(hooks, name)).parameters)) == "run"


def test_each_kind_is_named_after_its_hook():
    """A kind is the singular of its hook: who knows one knows the other."""
    for kind, hook in hooks.KINDS.items():
        assert hook in (f"{kind}s", f"{kind}es")
