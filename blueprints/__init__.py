"""One folder per API surface: schemas.py (shape), translate.py (pure: theirs ⇄ ours), routes.py (thin)."""
