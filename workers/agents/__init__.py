"""The built-in agents, one file each. Know the author's words and the context; nothing of the engine."""
