"""The documentation, run: its code blocks, its generated tables, its links, its two languages."""
