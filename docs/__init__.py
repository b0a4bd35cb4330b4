"""The documentation for people, and what generates its tables: `python -m docs.generate`."""
