"""WebSocket and HTTP in, replies out. Holds sockets and reads the journal; knows nothing of agents."""
