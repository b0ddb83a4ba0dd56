"""From a recipe to a trained init, and from trained inits to a table: runs, files, the protocol."""
