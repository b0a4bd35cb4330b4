"""Sessions and their turns in a database: SQLite with no set-up, PostgreSQL by URL. Knows nothing of CLIs."""
