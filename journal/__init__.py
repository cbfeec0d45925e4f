"""Sessions as logs: the fold, appends, snapshots, timers, directory. Knows nothing of brokers, agents or sockets."""
