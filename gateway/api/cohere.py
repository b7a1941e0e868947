"""POST /v2/chat, /v2/embed and /v2/rerank: Cohere's own wires, with its errors."""

from gateway.api.surface import SurfaceView
from providers.wire import cohere, cohere_embed, cohere_rerank


class CohereChatView(SurfaceView):
    wire = cohere.WIRE
    surface = "cohere_chat"


class CohereEmbedView(SurfaceView):
    wire = cohere_embed.WIRE
    surface = "cohere_embed"


class CohereRerankView(SurfaceView):
    wire = cohere_rerank.V2
    surface = "rerank"
