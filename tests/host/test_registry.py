"""The registry: plugins are found one by one, and what is wrong with one is its own affair."""

import logging
import subprocess
import sys
from importlib.metadata import EntryPoint

import pytest

from seqtoolkit.host.hooks import API, KINDS
from seqtoolkit.host.registry import PartError, discover

HOOK = "from seqtoolkit.host.hooks import hookimpl\n"
GOOD = (
    HOOK
    + """
@hookimpl
def cores():
    return {{"{0}": "{1}.core:Core"}}
"""
)
BROKEN = {
    "import": ("import no_such_module_anywhere", "ModuleNotFoundError: No module named 'no_such_module_anywhere'"),
    "syntax": ("def f(:", "SyntaxError: invalid syntax"),
    "exit": ("import sys; sys.exit('no GPU')", "SystemExit: no GPU"),
    "lines": ("raise RuntimeError('one\\n  two')", "RuntimeError: one two"),
    "misspelt": (HOOK + "@hookimpl\ndef coers(): return {}", "there is no hook 'coers'; did you mean cores?"),
    "argument": (HOOK + "@hookimpl\ndef run_started(runn): ...", "runn"),
    "wrapper": (HOOK + "@hookimpl(wrapper=True)\ndef cores():\n    yield", "wrappers are not supported"),
    "none": (HOOK + "@hookimpl\ndef cores(): ...", "wanted a mapping of names to places, got null"),
    "list": (HOOK + "@hookimpl\ndef cores(): return ['a:b']", "wanted a mapping of names to places, got a list of 1"),
    "class": (HOOK + "@hookimpl\ndef cores(): return {'a': int}", "a: wanted 'module:attribute', got a type"),
    "place": (HOOK + "@hookimpl\ndef cores(): return {'a': 'b.c'}", "a: wanted 'module:attribute', got 'b.c'"),
    "name": (HOOK + "@hookimpl\ndef cores(): return {'a b': 'c:d'}", "'a b' is no name"),
    "raises": (HOOK + "@hookimpl\ndef cores(): 1 / 0", "ZeroDivisionError: division by zero"),
    "folder": (HOOK + "@hookimpl\ndef pipelines(): return '../x'", "wanted 'package:folder', got '../x'"),
    "climbs": (HOOK + "@hookimpl\ndef grammars(): return 'p:a/../..'", "wanted 'package:folder'"),
    "future": (f"SEQTOOLKIT_API = {API + 1}", f"needs version {API + 1} of the hooks, this toolkit has {API}"),
    "api": ("SEQTOOLKIT_API = 'new'", "SEQTOOLKIT_API: wanted an integer, got 'new'"),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_broken_plugin_is_named_with_its_cause_and_hurts_nobody(fault, shelf):
    """A plugin with any fault brings nothing and says why in one line; its neighbours work."""
    text, cause = BROKEN[fault]
    shelf.install("bad", text, version="0.3")
    shelf.install("neighbour", GOOD.format("near", "neighbour"), files={"core.py": "class Core: ..."})
    registry = shelf.discover()
    (bad,) = registry.broken
    assert (bad.name, bad.distribution, bad.version, bad.brings) == ("bad", "bad", "0.3", {})
    assert cause in bad.error
    assert "\n" not in bad.error
    assert registry.names("core") == ["near"]
    assert registry.resolve("core", "near").__module__ == "neighbour.core"
    with pytest.raises(PartError) as caught:
        registry.resolve("core", "far")
    assert "bad 0.3" in str(caught.value)
    assert cause in str(caught.value)
    assert "\n" not in str(caught.value)


def test_two_owners_of_a_name_clash_without_hurting_others(shelf):
    """A name that two distributions bring is refused with both named; the same name of another kind is no clash."""
    shelf.install("one", GOOD.format("rmc", "one"), files={"core.py": "Core = int"}, version="1.1")
    text = (
        GOOD.format("rmc", "two") + "@hookimpl\ndef heads(): return {'rmc': 'two.core:Core', 'lone': 'two.core:Core'}"
    )
    shelf.install("two", text, files={"core.py": "Core = str"}, version="2.2")
    registry = shelf.discover()
    assert not registry.broken
    (clash,) = registry.clashes
    assert (clash.kind, clash.name) == ("core", "rmc")
    with pytest.raises(PartError, match=r"core 'rmc' is brought by one 1\.1 and two 2\.2; uninstall one of them"):
        registry.resolve("core", "rmc")
    assert registry.names("core") == []
    assert registry.resolve("head", "rmc") is str
    assert registry.resolve("head", "lone") is str


def test_one_entry_point_name_of_two_distributions(shelf):
    """Two distributions may call their entry point alike: both plugins are there, and both hear the hooks."""
    for name in ("one", "two"):
        text = GOOD.format(name, name) + "@hookimpl\ndef run_started(run): run.append(__name__)"
        shelf.install(name, text, entry="core", files={"core.py": "Core = int"})
    registry = shelf.discover()
    assert [(each.name, each.distribution, each.error) for each in registry.plugins] == [
        ("core", "one", None),
        ("core", "two", None),
    ]
    assert registry.names("core") == ["one", "two"]
    heard = []
    registry.notify("run_started", run=heard)
    assert heard == ["one", "two"]


def test_one_module_of_two_entry_points_counts_once(shelf):
    """A module that a second entry point names again is not asked twice: its parts do not clash with themselves."""
    shelf.install("one", GOOD.format("rmc", "one"), files={"core.py": "Core = int"})
    (point,) = shelf.points()
    registry = discover([point, EntryPoint("again", "one", "seqtoolkit")])
    assert registry.names("core") == ["rmc"]
    assert [each.name for each in registry.broken] == ["again"]
    assert "already loaded as plugin one" in registry.broken[0].error


def test_entry_point_without_a_distribution_or_a_module():
    """Metadata that is damaged breaks its plugin alone."""
    registry = discover([EntryPoint("odd", "not a module!", "seqtoolkit")])
    assert [(each.name, each.distribution) for each in registry.broken] == [("odd", "unknown")]


def test_part_is_imported_on_first_use_only(shelf):
    """Finding a plugin imports its package and nothing else; asking for a part imports where it is."""
    shelf.install("lazy", GOOD.format("slow", "lazy"), files={"core.py": "class Core:\n    class Inner: ..."})
    registry = shelf.discover()
    assert "lazy.core" not in sys.modules
    part = registry.resolve("core", "slow")
    assert part is sys.modules["lazy.core"].Core
    assert registry.name_of("core", part) == "slow"
    assert registry.name_of("core", int) is None


def test_names_that_a_module_only_offers_are_not_imported(shelf):
    """A package whose `__dir__` offers names to import on use is found without importing them."""
    offers = """
def __dir__(): return ["cores", "Core"]
def __getattr__(name):
    if name == "Core":
        import lazy.core
    raise AttributeError(name)
"""
    shelf.install("lazy", GOOD.format("slow", "lazy") + offers, files={"core.py": ""})
    assert shelf.discover().names("core") == ["slow"]
    assert "lazy.core" not in sys.modules


@pytest.mark.parametrize(
    ("place", "cause"),
    [
        ("missing.core:Core", "cannot import missing.core:Core: ModuleNotFoundError"),
        ("plug:Nothing", "cannot import plug:Nothing: AttributeError"),
        ("plug:number", "plug:number is an int, which is not callable"),
        ("plug.dies:Core", "cannot import plug.dies:Core: SystemExit: 3"),
    ],
)
def test_part_that_cannot_be_imported_says_where_it_is_from(place, cause, shelf):
    """A part that fails on first use is an error with part, distribution, place and cause."""
    text = HOOK + f"number = 3\n@hookimpl\ndef cores(): return {{'rmc': '{place}'}}"
    shelf.install("plug", text, files={"dies.py": "raise SystemExit(3)"})
    with pytest.raises(PartError) as caught:
        shelf.discover().resolve("core", "rmc")
    assert str(caught.value).startswith("core 'rmc' of plug 1.0: ")
    assert cause in str(caught.value)


def test_unknown_name_and_kind_suggest_the_one_that_was_meant(fakes):
    """A name close to a known one is answered with it, any other with the list."""
    with pytest.raises(PartError, match=r"^no core 'memori'; did you mean memory\?$"):
        fakes.resolve("core", "memori")
    with pytest.raises(PartError, match=r"^no core 'x'; wanted one of gone, greedy, memory, plain$"):
        fakes.resolve("core", "x")
    with pytest.raises(PartError, match=r"no kind of parts 'coer'; did you mean core\?"):
        fakes.names("coer")
    assert fakes.kinds == tuple(KINDS)


def test_failing_hook_stops_nobody_and_is_logged_by_name(shelf, caplog):
    """A life-cycle hook that raises is logged with its plugin; those before and after it are heard."""
    for name, body in {"a": "run.append('a')", "b": "1 / 0", "c": "run.append('c')"}.items():
        shelf.install(name, HOOK + f"@hookimpl\ndef run_started(run): {body}")
    heard = []
    with caplog.at_level(logging.WARNING):
        shelf.discover().notify("run_started", run=heard)
    assert heard == ["a", "c"]
    assert [record.getMessage() for record in caplog.records] == [
        "plugin b 1.0: run_started failed: ZeroDivisionError: division by zero"
    ]


def test_interrupt_passes_through_a_hook(shelf):
    """Ctrl-C inside of a hook ends the run: it is no failure of the plugin."""
    shelf.install("slow", HOOK + "@hookimpl\ndef run_ended(status): raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        shelf.discover().notify("run_ended", run=None, status="FINISHED")


def test_hook_relay_calls_all(shelf):
    """`hook` is pluggy's relay: it collects what the plugins answer, each with the arguments that it takes."""
    shelf.install("one", HOOK + "@hookimpl\ndef evaluated(step): return step + 1")
    assert shelf.discover().hook.evaluated(run=None, step=3, metrics={}, samples=[], views=[]) == [4]


def test_installed_plugins_are_found_once():
    """Without entry points given, the installed plugins are found, the host's own parts among them; once."""
    registry = discover()
    assert registry is discover()
    assert "accuracy" in registry.names("metric")
    assert not registry.broken


def test_discovery_imports_no_torch():
    """Finding every installed plugin imports neither torch nor mlflow."""
    code = "import sys\nfrom seqtoolkit.host.registry import discover\ndiscover()\nprint({'torch', 'mlflow'} & {*sys.modules})"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
