from django.apps import AppConfig


class RolloutsConfig(AppConfig):
    name = "controlplane.rollouts"
    label = "rollouts"

    def ready(self) -> None:
        from controlplane.policy.queries import install_deployments
        from controlplane.rollouts.queries import deployment_lines

        install_deployments(deployment_lines)
