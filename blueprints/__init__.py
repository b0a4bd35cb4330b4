"""One folder per API surface: schemas.py (shapes), translate.py (pure: the client's format ⇄ ours), routes.py (thin)."""
