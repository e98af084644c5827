"""Postgres and Redis from PyPI wheels, for a laptop and for the tests; used only while no URL is set."""
