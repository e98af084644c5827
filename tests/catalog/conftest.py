from tests.catalog.stage import admin, operator, stage, viewer

__all__ = ["admin", "operator", "stage", "viewer"]
