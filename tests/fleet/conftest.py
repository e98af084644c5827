from tests.fleet.stage import stage

__all__ = ["stage"]
