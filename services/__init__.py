"""What the product exists for. Knows nothing of HTTP: no module here imports flask or ``app``."""
