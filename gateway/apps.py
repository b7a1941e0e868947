from django.apps import AppConfig


class GatewayConfig(AppConfig):
    name = "gateway"
    verbose_name = "Gateway"

    def ready(self) -> None:
        from gateway import logs
        from gateway.api import health
        from gateway.runtime import problem, spooled

        logs.configure()
        health.register("ledger", problem)
        health.register("spool", spooled)
