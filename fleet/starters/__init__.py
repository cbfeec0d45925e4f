"""What `fleet new` copies: an agent of each kind, and its test. Knows no command."""
