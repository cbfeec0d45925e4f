"""The ground: what travels and what is stored. Knows pydantic and yaml; no network, no other part of the house."""
