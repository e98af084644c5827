from tests.inventiv.api_stage import admin, anonymous, catalogue, make_instances, operator, viewer

__all__ = ["admin", "anonymous", "catalogue", "make_instances", "operator", "viewer"]
