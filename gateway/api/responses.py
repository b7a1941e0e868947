"""POST /v1/responses: OpenAI's responses wire."""

from gateway.api.surface import SurfaceView
from providers.wire import openai_responses


class ResponsesView(SurfaceView):
    wire = openai_responses.WIRE
    surface = "responses"
