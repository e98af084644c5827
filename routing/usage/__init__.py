"""What the routers tell of every request, on its way into Postgres; and what is asked of it there."""
