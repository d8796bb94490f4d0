from django.apps import AppConfig


class BudgetsConfig(AppConfig):
    name = "controlplane.budgets"
    label = "budgets"

    def ready(self) -> None:
        from controlplane.budgets.actions.section import money
        from controlplane.policy.queries import install_money

        install_money(money)
