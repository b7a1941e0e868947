"""Charts of the desk: unfold's component, which draws with the Chart.js that it ships."""

from __future__ import annotations

import json
from collections.abc import Sequence

from django.template.loader import render_to_string
from django.utils.safestring import SafeString

from providers.models import HealthCheck

_WELL, _ILL = "var(--color-primary-600)", "#dc2626"


def health_chart(checks: Sequence[HealthCheck]) -> SafeString:
    """The time that each check took in milliseconds, oldest first; the checks that failed are red."""
    data = {
        "labels": [f"{check.checked_at:%m-%d %H:%M}" for check in checks],
        "datasets": [
            {
                "label": "ms",
                "data": [round(check.latency_ms, 1) for check in checks],
                "backgroundColor": [_WELL if check.healthy else _ILL for check in checks],
            }
        ],
    }
    return render_to_string("unfold/components/chart/bar.html", {"data": json.dumps(data), "height": 160})
