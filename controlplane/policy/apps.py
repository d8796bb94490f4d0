from django.apps import AppConfig


class PolicyConfig(AppConfig):
    name = "controlplane.policy"
    label = "policy"

    def ready(self) -> None:
        from controlplane import intent
        from controlplane.policy.actions.publishing import publish

        intent.install(publish)
