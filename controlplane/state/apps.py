from django.apps import AppConfig


class StateConfig(AppConfig):
    name = "controlplane.state"
    label = "state"
