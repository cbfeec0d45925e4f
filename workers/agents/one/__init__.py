"""OneAgent: reasons, acts by tools, plans, delegates. Knows the author's words; nothing of the engine."""
