"""What turns cost: time by hop, money, budgets. Knows no provider, no broker."""
