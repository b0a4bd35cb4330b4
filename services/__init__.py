"""The domain layer. Independent of HTTP: no module here imports flask or ``app``."""
