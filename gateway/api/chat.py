"""POST /v1/chat/completions: OpenAI's chat wire."""

from gateway.api.surface import SurfaceView
from providers.wire import openai_chat


class ChatCompletionsView(SurfaceView):
    wire = openai_chat.WIRE
    surface = "chat"
