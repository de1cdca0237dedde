"""What crosses a topic or survives a restart: events, rows, contexts, decisions, actions and their keys."""
