"""The data. One module per signal class, each with `load(split, ...) -> Dataset`."""
