"""Sessions and turns in a database: SQLite by default, PostgreSQL by URL. Independent of CLIs. `services.runs` has its tables there too."""
