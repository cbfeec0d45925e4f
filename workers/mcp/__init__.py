"""Tools of MCP servers that the operator configured. Knows tools, processes and the SDK; nothing of turns."""
