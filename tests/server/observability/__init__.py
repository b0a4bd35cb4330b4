"""Metrics, log lines and traces, on real servers."""
