"""The orchestrator and the real drivers against the stand-ins of their clouds, over HTTP, on one clock."""
