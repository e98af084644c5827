"""What every part of the REST API has in common: permissions, pages, filters, problems, the spec."""
