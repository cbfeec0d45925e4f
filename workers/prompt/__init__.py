"""A turn's model request: what it is compiled of, in which order, within which budgets. Knows no provider."""
