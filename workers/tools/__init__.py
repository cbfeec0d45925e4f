"""What a model may call: tools, their policies and how a call is made durable. Knows no model and no MCP."""
