"""POST /v1/completions: OpenAI's legacy completions, passed through."""

from gateway.api.surface import SurfaceView
from providers.wire import openai_completions


class CompletionsView(SurfaceView):
    wire = openai_completions.WIRE
    surface = "completions"
