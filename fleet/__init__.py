"""The operator's command `fleet`. Composes the rest of the house; nothing imports it."""
