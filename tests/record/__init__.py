"""`python -m tests.record`: what the installed CLIs write, asked anew, and what has changed of it since the last recorded version."""
