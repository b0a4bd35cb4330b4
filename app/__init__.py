"""Assembles the application; the only package that reads settings. Imports go one way: ``app → blueprints → services``."""
