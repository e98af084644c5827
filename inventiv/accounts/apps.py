from django.apps import AppConfig


class AccountsConfig(AppConfig):
    name = "inventiv.accounts"
    label = "accounts"
    verbose_name = "Access"
