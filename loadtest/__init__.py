"""Load on Turnfleet from outside: generator, scripted model, yardstick, reports. Speaks only the public protocols."""
