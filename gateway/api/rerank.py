"""POST /v1/rerank: Cohere's rerank wire."""

from gateway.api.surface import SurfaceView
from providers.wire import cohere_rerank


class RerankView(SurfaceView):
    wire = cohere_rerank.WIRE
    surface = "rerank"
