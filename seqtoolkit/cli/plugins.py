"""`seqtoolkit plugins`: what is installed, what a part takes, and a new plugin to begin from."""

from __future__ import annotations

import json
import re
from dataclasses import MISSING
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from seqtoolkit.cli.completion import parts
from seqtoolkit.cli.new import new
from seqtoolkit.host.hooks import FOLDERS
from seqtoolkit.host.problem import suggest
from seqtoolkit.host.registry import PartError, Plugin, Registry, discover
from seqtoolkit.host.resource import shipped
from seqtoolkit.host.schema import Field, Schema, plain

app = typer.Typer(help="What is installed, what a part takes, and a new plugin to begin from.")
app.command()(new)


@app.callback(invoke_without_command=True)
def plugins(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs to read.")] = False,  # noqa: FBT002  typer makes a flag of it
) -> None:
    """List the plugins: where each is from and what it brings; then those that are broken or clash, with the cause."""
    if context.invoked_subcommand:
        return
    registry = discover()
    if as_json:
        typer.echo(json.dumps(_record(registry), indent=2))
        return
    console = Console(highlight=False)
    table = Table("plugin", "distribution", "version", "brings", box=None, pad_edge=False, header_style="bold")
    files = _files(registry)
    for plugin in registry.plugins:
        if not plugin.error:
            brings = [f"{kind}: {', '.join(names)}" for kind, names in plugin.brings.items()]
            brings += [f"{what}: {', '.join(names)}" for what, names in files.get(plugin.distribution, {}).items()]
            table.add_row(*map(Text, (plugin.name, plugin.distribution, plugin.version, "\n".join(brings))))
    console.print(table)
    wrong = [f"broken: {plugin.name} of {plugin.origin}: {plugin.error}" for plugin in registry.broken]
    for line in wrong + [f"clash: {clash}" for clash in registry.clashes]:
        console.print(Text(line, style="red"), soft_wrap=True)


@app.command()
def show(
    part: Annotated[str, typer.Argument(help="A part's name, or kind:name, as core:rmc.", autocompletion=parts)],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs to read.")] = False,  # noqa: FBT002  typer makes a flag of it
) -> None:
    """Show a part: what it is, its paper, its parameters, where it is from."""
    registry = discover()
    kind, name = _find(registry, part)
    fields, plugin = registry.schema(kind, name), registry.owner(kind, name)
    if as_json:
        typer.echo(json.dumps(_part(kind, name, fields, plugin), indent=2))
        return
    console = Console(highlight=False)
    console.print(Text(f"{kind} {name}", style="bold"), Text(f"from {plugin.origin}, {plugin.parts[kind][name]}"))
    console.print(Text("\n" + re.sub(r"(?<=\S)\n(?=[^\s*-])", " ", fields.doc) + "\n"))
    table = Table("parameter", "type", "default", "meaning", box=None, pad_edge=False, header_style="bold")
    for field in fields.fields.values():
        table.add_row(*map(Text, (field.name, field.type, _default(field), field.doc)))
    console.print(table if fields.fields else "It takes no parameters.")


def _part(kind: str, name: str, schema: Schema, plugin: Plugin) -> dict[str, Any]:
    parameters = [
        {
            "name": field.name,
            "type": field.type,
            "required": field.required,
            "default": None if field.required else _written(field.default),
            "choices": list(field.choices),
            "meaning": field.doc,
        }
        for field in schema.fields.values()
    ]
    origin = {"distribution": plugin.distribution, "version": plugin.version, "place": plugin.parts[kind][name]}
    return {"kind": kind, "name": name, **origin, "doc": schema.doc, "parameters": parameters}


def _find(registry: Registry, part: str) -> tuple[str, str]:
    kind, colon, name = part.partition(":")
    if colon:
        return kind, name
    kinds = [kind for kind in registry.kinds if part in registry.owned(kind)]
    if len(kinds) == 1:
        return kinds[0], part
    if kinds:
        raise PartError(f"{part!r} is of several kinds: say {' or '.join(f'{kind}:{part}' for kind in kinds)}")
    names = {name for kind in registry.kinds for name in registry.owned(kind)}
    raise PartError(
        f"no part {part!r}{suggest(part, sorted(names))} (`seqtoolkit plugins` lists them){registry.excuse}"
    )


def _default(field: Field) -> str:
    if field.default is MISSING:
        return "required"
    value = _written(field.default)
    return value if isinstance(value, str) and value else json.dumps(value)


def _written(default: Any) -> Any:
    """A default as a pipeline writes it; one that it cannot write, by its name."""
    value = plain(default)
    return str(getattr(default, "__name__", default)) if value is MISSING else value


def _files(registry: Registry) -> dict[str, dict[str, list[str]]]:
    """By distribution: the pipelines and grammars that it ships."""
    found: dict[str, dict[str, list[str]]] = {}
    for what in FOLDERS:
        for name, (_, distribution) in shipped(what, registry).items():
            found.setdefault(distribution, {}).setdefault(what, []).append(name)
    return found


def _record(registry: Registry) -> dict[str, Any]:
    files = _files(registry)

    def entry(plugin: Plugin) -> dict[str, Any]:
        facts = ("name", "distribution", "version", "module", "brings", "error")
        return {fact: getattr(plugin, fact) for fact in facts} | {"files": files.get(plugin.distribution, {})}

    clashes = [
        {"kind": clash.kind, "name": clash.name, "distributions": [plugin.distribution for plugin in clash.plugins]}
        for clash in registry.clashes
    ]
    return {"plugins": list(map(entry, registry.plugins)), "clashes": clashes}
