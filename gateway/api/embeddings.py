"""POST /v1/embeddings: OpenAI's embeddings wire."""

from gateway.api.surface import SurfaceView
from providers.wire import openai_embeddings


class EmbeddingsView(SurfaceView):
    wire = openai_embeddings.WIRE
    surface = "embeddings"
