"""What the executions of CLIs have used: the ledger, its sums, and the prices of models."""
