"""Others that do the same work on the same broker, each written as its own documentation has it."""
