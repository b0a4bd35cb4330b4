"""Who may do what: a key's rights, and whose things it sees. Independent of how keys are configured or stored."""
