"""`clinvk prompt`, `parallel`, `chain`, `compare`, `sessions`, `backends`: a client of a running server, or of a private one."""
