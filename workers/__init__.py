"""Workers: turns in, agents run, entries appended, replies out. Knows nothing of sockets, and never of the gateway."""
