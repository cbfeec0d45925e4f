"""What breaks the fleet on purpose and what proves from topics and MongoDB alone that it kept its word."""
