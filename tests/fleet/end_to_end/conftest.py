from tests.fleet.end_to_end.stage import cloud, stage

__all__ = ["cloud", "stage"]
