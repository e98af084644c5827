"""The admin site's own words. Each app registers its models."""

from django.contrib import admin
from django.contrib.auth.models import Group

# Roles decide (inventiv/accounts/roles.py), groups do not. Importing its admin first: it registers the model.
from django.contrib.auth import admin as _auth_admin  # noqa: F401  isort:skip

admin.site.site_header = "Inventiv"
admin.site.site_title = "Inventiv"
admin.site.index_title = "Inventiv"
admin.site.site_url = None  # there is no other site to view
admin.site.empty_value_display = "–"
admin.site.unregister(Group)
