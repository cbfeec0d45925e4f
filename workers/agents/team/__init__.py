"""Teams: a router and specialists. Knows the author's words; nothing of the engine."""
