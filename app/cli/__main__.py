"""`python -m app.cli`: the command where nothing is installed."""

from app.cli import main

main()
