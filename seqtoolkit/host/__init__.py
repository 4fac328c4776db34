"""Who provides it: hooks, registry, schema, config and assembly."""
