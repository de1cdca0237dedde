"""The `midstream` commands, one module for each group."""
