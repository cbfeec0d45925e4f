"""Models that answer. Knows nothing of turns' fate, of journals, brokers or sockets."""
