"""The whole system on one machine: what `make run` starts, watches, shows and stops."""
